"""The table of a preflight: one row a promise, passed or failed with its fix, and check.json. Imports no torch."""

import json
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gen.errors import UserError
from r2gen.runs.files import write_whole

PASS, FAIL, NOT_REACHED = "pass", "FAIL", "not reached"
FORMAT = 1


@dataclass(frozen=True)
class Row:
    """What one check found."""

    name: str
    status: str  # PASS, FAIL or NOT_REACHED
    found: str
    fix: str = ""
    seconds: float = 0.0


class Fails(Exception):
    """A promise that does not hold: what was found, and what to type or to look at."""

    def __init__(self, found: str, *, fix: str) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


@dataclass(frozen=True)
class Check:
    """A named check that gives what it found; where a `vital` one fails, those after it cannot run."""

    name: str
    run: Callable[[], str]
    vital: bool = False


def run_checks(checks: Sequence[Check], say: Callable[[str], None]) -> list[Row]:
    """A row a check, in order; each is said as soon as it is known.

    Whatever a check raises is its row: a preflight is for what nobody thought of.
    """
    rows: list[Row] = []
    stopped_by = ""
    for check in checks:
        began = time.monotonic()
        if stopped_by:
            row = Row(check.name, NOT_REACHED, f"needs what failed: {stopped_by}")
        else:
            row = _row(check, began)
            if row.status == FAIL and check.vital:
                stopped_by = check.name
        rows.append(row)
        say(line(row))
    return rows


def _row(check: Check, began: float) -> Row:
    def row(status: str, found: str, fix: str = "") -> Row:
        return Row(check.name, status, found, fix, round(time.monotonic() - began, 2))

    try:
        return row(PASS, check.run())
    except Fails as failure:
        return row(FAIL, failure.found, failure.fix)
    except UserError as error:
        return row(FAIL, str(error))  # its text names the fix
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        return row(FAIL, f"{type(error).__name__}: {first}", "a run with this configuration would end here, too")


def line(row: Row) -> str:
    """A row as text; long findings go on in the lines below."""
    text = row.found + (f"\nfix: {row.fix}" if row.fix else "")
    wrapped = [part for whole in text.split("\n") for part in textwrap.wrap(whole, 84) or [""]]
    return "\n".join([f"{row.status:<12} {row.name:<20} {wrapped[0]}", *(f"{'':<34}{part}" for part in wrapped[1:])])


def write_rows(file: Path, rows: Sequence[Row], *, facts: dict[str, object]) -> None:
    """check.json: format, what was checked, and the rows."""
    found = {
        "format": FORMAT,
        **facts,
        "failed": sum(row.status != PASS for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    write_whole(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
