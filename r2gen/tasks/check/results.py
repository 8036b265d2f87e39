"""The results of a preflight: each check passes, or fails with a fix; the table on the terminal, and check.json."""

import json
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2gen.errors import UserError
from r2gen.runs.files import write_whole
from r2gen.runs.progress import terminal_width

PASS, FAIL, NOT_REACHED = "pass", "FAIL", "not reached"
FORMAT = 1
_MESSAGE_AT = 34  # column of the messages


class CheckFailed(Exception):
    """A check that failed: what is wrong, and how to fix it."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@dataclass(frozen=True)
class Check:
    """A named check. `run` returns what it measured, or raises; after a `vital` check that fails, no other can run."""

    name: str
    run: Callable[[], str]
    vital: bool = False


@dataclass(frozen=True)
class CheckResult:
    name: str
    status: str  # PASS, FAIL or NOT_REACHED
    message: str
    fix: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        """One line of the table; a message wider than the terminal continues in the lines below."""
        width = terminal_width() - _MESSAGE_AT
        text = self.message + (f"\nfix: {self.fix}" if self.fix else "")
        first, *others = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
        below = [" " * _MESSAGE_AT + part for part in others]
        return "\n".join([f"{self.status:<12} {self.name:<20} {first}", *below])

    def as_plain(self) -> dict[str, object]:
        """The entry of check.json."""
        return {
            "name": self.name,
            "status": self.status,
            "found": self.message,
            "fix": self.fix,
            "seconds": self.seconds,
        }


def run_checks(checks: Sequence[Check], report: Callable[[CheckResult], None]) -> list[CheckResult]:
    """Run the checks in order, and report each result at once.

    Any exception is the result of its check, since a preflight is for errors that nobody has thought of.
    """
    results: list[CheckResult] = []
    failed = ""  # the vital check that failed
    for check in checks:
        if failed:
            result = CheckResult(check.name, NOT_REACHED, f"not possible after this check failed: {failed}")
        else:
            result = _result(check)
        if result.status == FAIL and check.vital:
            failed = check.name
        results.append(result)
        report(result)
    return results


def _result(check: Check) -> CheckResult:
    began = time.monotonic()
    status, fix = FAIL, ""
    try:
        status, message = PASS, check.run()
    except CheckFailed as error:
        message, fix = str(error), error.fix
    except UserError as error:
        message = str(error)  # which names the fix
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        message = f"{type(error).__name__}: {first_line}"
        fix = "a run with this configuration would end with this error"
    return CheckResult(check.name, status, message, fix, round(time.monotonic() - began, 2))


def write_results(file: Path, results: Sequence[CheckResult], *, facts: Mapping[str, object]) -> None:
    """Write check.json: what was checked, and the results."""
    content = {
        "format": FORMAT,
        **facts,
        "failed": sum(result.status != PASS for result in results),
        "rows": [result.as_plain() for result in results],
    }
    write_whole(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
