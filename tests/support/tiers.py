"""The fast and the slow tier of a family of tests that have the same code."""

from collections.abc import Iterable
from typing import Any

import pytest


def fast_only(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Values for pytest.mark.parametrize, of which all but the `fast` ones are tested in the slow tier."""
    values = list(values)
    missing = [value for value in fast if value not in values]
    assert not missing or not values, f"{missing} are not tested"
    return [value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values]
