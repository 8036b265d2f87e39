"""Dotted names of a plain configuration, and its canonical text."""

import json
from collections.abc import Iterator
from typing import Any


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; empty groups are leaves."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from flat(value, name + ".")
        else:
            yield name, value


def lies_under(key: str, *names: str) -> bool:
    """Whether a dotted key is one of the names, or below one."""
    return any(key == name or key.startswith(name + ".") for name in names)


def without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The dotted leaves of a configuration but those that are, or lie under, one of the names."""
    return {key: value for key, value in flat(config) if not lies_under(key, *names)}


def key_of(override: str) -> str:
    """`generation.num_beams` of `++generation.num_beams=3`."""
    return override.lstrip("+~").partition("=")[0]


def without_sweep(overrides: list[str]) -> list[str]:
    """Without +sweeps=NAME, which says what to repeat; what it repeats is there as overrides of its own."""
    return [override for override in overrides if key_of(override) != "sweeps"]


def canonical(value: Any) -> str:
    """One text for one configuration, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
