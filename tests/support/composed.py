"""The configuration that a command composes to, checked as run.py checks it."""

from r2gen.config.compose import compose
from r2gen.config.plain import Plain
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.runs.stored import checked


def composed(*overrides: str) -> Config:
    """The configuration of `python run.py` with these overrides. Raises UserError where it is refused."""
    composition = compose(overrides)
    return checked(composition.plain, composition.choices)


def composed_plain(*overrides: str) -> Plain:
    """As `composed`, as plain values without the choices."""
    return {key: value for key, value in to_plain(composed(*overrides)).items() if key != "choices"}
