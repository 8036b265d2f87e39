"""The check of a data set before a folder is made or a rank starts."""

from r2gen.config.targets import Target, instantiate


def check_data(data: Target) -> None:
    """Raise UserError where an annotation or its images cannot be used. Ranks do not repeat the check."""
    if data.name == "r2gen.data.annotation.AnnotatedReports":
        instantiate(data)
