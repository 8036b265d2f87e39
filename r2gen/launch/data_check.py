"""The check of a data set before a folder is made or a rank starts."""

from pathlib import Path

from r2gen.config.schema import Config
from r2gen.config.targets import Target, instantiate
from r2gen.data.images import read_image
from r2gen.data.reports import DataSource


def check_data(data: Target) -> None:
    """Raise UserError where reports or images cannot be used. Ranks do not repeat the check."""
    source: DataSource = instantiate(data)
    source.check()


def check_study(config: Config) -> None:
    """Raise UserError where the images of task=generate cannot be used."""
    for image in config.images:
        read_image(Path(image), gray_bits=config.data.get("gray_bits"))
