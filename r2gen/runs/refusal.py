"""The end of a command that is refused: one message, without a traceback."""

import sys

from r2gen.cli.hydra_errors import in_words
from r2gen.errors import FIXABLE, Code, UserError, missing_package, printable
from r2gen.runs.failure import Failure, report


def refuse(error: Exception) -> int:
    """Print what is wrong with the command, and report it to a sweep that started it; gives the exit status.

    An error that is no mistake in the command is raised again.
    """
    error = missing_package(error) or error
    message = in_words(error)
    report(Failure(message, error.code if isinstance(error, UserError) else Code.INVALID))
    print(f"error: {printable(message)}", file=sys.stderr)
    return FIXABLE
