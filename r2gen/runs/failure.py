"""Why a command failed: code, phase and message. A run keeps them in run.json, and a sweep gets them in a file.

A sweep names the file in the environment variable R2GEN_FAILURE, since a job may fail before it has a run folder, or
because another command uses that folder.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gen.errors import Code, UserError
from r2gen.runs.files import write_whole
from r2gen.runs.phase import Phase
from r2gen.runs.untrusted import read_json

VARIABLE = "R2GEN_FAILURE"


@dataclass(frozen=True)
class Failure:
    """`phase` is None where the error came before any rank ran, or where the process left no word."""

    message: str
    code: Code
    phase: Phase | None = None

    @staticmethod
    def of(error: UserError, phase: Phase | None = None) -> "Failure":
        return Failure(str(error), error.code, phase)

    def facts(self) -> dict[str, str | None]:
        """What run.json keeps."""
        return {"reason": self.message, "code": self.code, "phase": self.phase}


def report(failure: Failure) -> None:
    """Write the failure for the sweep that started this command, if one did. The first failure counts."""
    file = os.environ.get(VARIABLE)
    if file and not Path(file).exists():
        with contextlib.suppress(OSError, UserError):  # on a full disk the sweep has the exit status and the log
            write_whole(Path(file), json.dumps(asdict(failure)) + "\n")


def read_failure(file: Path) -> Failure | None:
    """The failure that a command reported; None where it reported none."""
    try:
        stored = read_json(file)
        phase = stored["phase"]
        return Failure(str(stored["message"]), Code(stored["code"]), phase if phase is None else Phase(phase))
    except (OSError, ValueError, KeyError, TypeError):
        return None
