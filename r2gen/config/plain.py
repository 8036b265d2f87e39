"""Plain configurations: dictionaries as YAML gives them, their dotted names, and their canonical text."""

import json
from collections.abc import Iterator
from typing import Any

Plain = dict[str, Any]  # names with values, as YAML and JSON give them


def flat(config: Plain, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; an empty group is a leaf."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from flat(value, name + ".")
        else:
            yield name, value


def is_under(key: str, *names: str) -> bool:
    """Whether a dotted key is one of the names, or below one."""
    return any(key == name or key.startswith(name + ".") for name in names)


def without(config: Plain, names: tuple[str, ...]) -> Plain:
    """The dotted leaves of a configuration, except those that are one of the names or below one."""
    return {key: value for key, value in flat(config) if not is_under(key, *names)}


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
