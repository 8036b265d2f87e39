"""The one exception a user can fix: its text names the option, file or line, and the fix."""


class UserError(Exception):
    """Printed as one plain message; the process leaves with status 2."""
