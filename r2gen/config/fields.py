"""The description, choices and bounds of an option.

They are written once, on the field of the configuration: `--help` prints them and read.py checks them.
"""

from dataclasses import Field, field
from typing import Any

from omegaconf import MISSING

from r2gen.errors import UserError, shown


def option(
    description: str = "",
    *,
    default: Any = MISSING,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    less_than: float | None = None,
) -> Any:
    """A dataclass field with a description for `--help` and the bounds of its values.

    Without a default, a YAML of the group must give the value. Dictionaries and lists given as the default are copied
    for each object.
    """
    about = {
        "description": description,
        "choices": choices,
        "at_least": at_least,
        "more_than": more_than,
        "at_most": at_most,
        "less_than": less_than,
    }
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=about)
    return field(default=default, metadata=about)


def check_bounds(name: str, value: Any, spec: Field[Any]) -> None:
    """Raise UserError naming the option where a number is outside the bounds of its field; null is inside."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    bounds = spec.metadata
    if bounds.get("more_than") is not None and value <= bounds["more_than"]:
        raise UserError(f"{name}={shown(value)} must be more than {bounds['more_than']}")
    if bounds.get("at_least") is not None and value < bounds["at_least"]:
        least = "must not be negative" if bounds["at_least"] == 0 else f"must be at least {bounds['at_least']}"
        raise UserError(f"{name}={shown(value)} {least}")
    if bounds.get("at_most") is not None and value > bounds["at_most"]:
        raise UserError(f"{name}={shown(value)}: give at most {bounds['at_most']:,}")
    if bounds.get("less_than") is not None and value >= bounds["less_than"]:
        raise UserError(f"{name}={shown(value)} must be less than {bounds['less_than']}")
