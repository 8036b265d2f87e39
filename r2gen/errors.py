"""How a command ends: its exit status, and the error that a user can fix, with a code for programs that read it."""

import re
import tomllib
from enum import StrEnum
from pathlib import Path

DONE, DEFECT, FIXABLE, STOPPED = 0, 1, 2, 3  # the exit statuses of every R2Gen command
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
DISTRIBUTIONS = {"openjpeg": "pylibjpeg-openjpeg"}  # of extras, by the name of the import if that is another one


class Code(StrEnum):
    """What kind of error it is. Sweeps and tests compare codes; people read the message."""

    INVALID = "invalid"  # an option or a file that the message names
    INCOMPATIBLE = "incompatible"  # a rule forbids this combination of options: a sweep skips it
    BUSY = "busy"  # another command uses the folder
    MEMORY_BUILD = "memory.build"
    MEMORY_TRAINING = "memory.training"
    MEMORY_GENERATION = "memory.generation"
    MEMORY_WORKERS = "memory.workers"  # a data worker was killed
    DISK = "disk"  # full, or read-only
    WEIGHTS_MISSING = "weights.missing"
    PACKAGE_MISSING = "package.missing"
    RANK_LOST = "rank.lost"  # a rank does not respond
    RANK_KILLED = "rank.killed"  # by signal 9, which the system sends when memory runs out
    RANK_CRASHED = "rank.crashed"  # by another signal
    DEFECT = "defect"  # an error that nobody expected


class UserError(Exception):
    """An error that a user can fix: printed as one plain message, and the process exits with status 2."""

    def __init__(self, message: str, *, code: Code = Code.INVALID) -> None:
        super().__init__(message)
        self.code = code


def missing_package(error: Exception) -> UserError | None:
    """The message that names the package to install; None for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None or error.name.startswith("r2gen"):
        return None
    package = error.name.partition(".")[0]
    return UserError(f"the package {package} is not installed: {installing(package)}", code=Code.PACKAGE_MISSING)


def installing(package: str) -> str:
    """The command that installs a package, by the name of its import: with the extra that lists it."""
    package = DISTRIBUTIONS.get(package, package).replace("-", "_")
    try:
        extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    except (OSError, LookupError, ValueError):
        extras = {}
    for extra, requirements in extras.items():
        if package in (re.split(r"[^\w-]", requirement)[0].replace("-", "_") for requirement in requirements):
            return f"pip install -c constraints.txt -e '.[{extra}]'"
    return "pip install -c constraints.txt -e ."


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor, change its colour or set its title (as in \\x1b)."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def shown(value: object) -> str:
    """A value for a message, as on the command line: short, on one line, printable."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text[:200] if text.isprintable() else repr(text[:200])
