"""How a command ends: its exit status, and the exception a user can fix, which names option, file or line, and fix."""

DONE, DEFECT, FIXABLE, STOPPED = 0, 1, 2, 3  # the exit statuses of every R2Gen command


class UserError(Exception):
    """Printed as one plain message; the process leaves with status 2."""


class Illegal(UserError):
    """Choices that a rule says do not go together: in a sweep a skipped job, and not a failed one."""


def lacks(error: Exception) -> str | None:
    """What to install, where a package is missing; None of any other error."""
    if not isinstance(error, ModuleNotFoundError) or str(error.name).startswith("r2gen"):
        return None
    package = str(error.name).partition(".")[0]
    return f"the package {package} is not installed: pip install -c constraints.txt -e '.[quant,dicom]'"


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor, colour it or set its title is spelt out (\\x1b)."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text
    )


def shown(value: object) -> str:
    """A value for a message, as one would type it: short, on one line, printable."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text[:200] if text.isprintable() else repr(text[:200])
