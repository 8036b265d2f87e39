"""The check of a data set before a folder is made or a rank starts."""

from r2gen.config.targets import Target, instantiate
from r2gen.data.reports import DataSource


def check_data(data: Target) -> None:
    """Raise UserError where reports or images cannot be used. Ranks do not repeat the check."""
    source: DataSource = instantiate(data)
    source.check()
