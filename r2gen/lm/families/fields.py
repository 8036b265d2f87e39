"""Fields of a published config.json: renamed to the native ones, or refused where the native class has no such thing.

Each family's `native` reads a published dictionary as well as one that save_pretrained wrote in native names.
"""

from collections.abc import Mapping
from typing import Any


class UnsupportedFormat(ValueError):
    """A field of config.json describes a model that the native class cannot express."""


def renamed(published: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The dictionary with its fields under their native names; others stay, unless they say the same thing."""
    native = {names[name]: value for name, value in published.items() if name in names}
    return {name: value for name, value in published.items() if name not in names} | native


def only(fields: dict[str, Any], expected: Mapping[str, Any]) -> None:
    """Take out the fields that have one readable value each. Raises UnsupportedFormat where one has another."""
    for name, value in expected.items():
        if name in fields and fields[name] != value:
            raise UnsupportedFormat(f"{name} is {fields[name]}: only {value} can be read into the native class")
        fields.pop(name, None)
