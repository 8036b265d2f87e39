"""How a command ends: its exit status, and the exception a user can fix, which names option, file or line, and fix."""

DONE, DEFECT, FIXABLE, STOPPED = 0, 1, 2, 3  # the exit statuses of every R2Gen command


class UserError(Exception):
    """Printed as one plain message; the process leaves with status 2."""


class Illegal(UserError):
    """Choices that a rule says do not go together: in a sweep a skipped job, and not a failed one."""


def shown(value: object) -> str:
    """A value for a message, as one would type it: short, on one line, printable."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text[:200] if text.isprintable() else repr(text[:200])
