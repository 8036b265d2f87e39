"""Fields of a published config.json, renamed for transformers' class or refused if the class lacks the option.

The `native` function of each family reads a published dictionary as well as one that save_pretrained wrote.
"""

from collections.abc import Mapping
from typing import Any

from r2gen.config.plain import Plain


class UnsupportedFormat(ValueError):
    """A field of config.json describes a model that transformers' class cannot express."""


def renamed(published: Mapping[str, Any], names: Mapping[str, str]) -> Plain:
    """Rename the fields listed in `names`; a renamed field replaces one that already has the new name."""
    native = {names[name]: value for name, value in published.items() if name in names}
    return {name: value for name, value in published.items() if name not in names} | native


def pop_fixed(fields: Plain, fixed: Mapping[str, Any]) -> None:
    """Remove the fields for which only one value is supported. Raises UnsupportedFormat if one has another value."""
    for name, value in fixed.items():
        if name in fields and fields[name] != value:
            raise UnsupportedFormat(f"{name} is {fields[name]}: only {value} can be read into the native class")
        fields.pop(name, None)
