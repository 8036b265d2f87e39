"""A patient's age and sex, as annotations, tables and DICOM files spell them."""

import math
import re
from typing import Any, Literal

from r2gen.config.context import OLDEST_YEARS

_YEARS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}
_AGE = re.compile(r"(\d{1,4}(?:\.\d+)?)\s*(?:\+|(y|m|w|d)|(years?|months?|weeks?|days?)( old)?)?")  # "045Y" is DICOM's
_SEXES: dict[str, Literal["F", "M"]] = {"f": "F", "female": "F", "m": "M", "male": "M"}
_UNKNOWN = ("", "u", "unknown", "o", "other", "x", "nan", "none")


def age_of(value: Any) -> float | None:
    """The age in years, from a number or a text such as `045Y` or `6 months`; None if it is missing.

    Raises ValueError if it is neither.
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _UNKNOWN:
            return None
        match = _AGE.fullmatch(text)
        value = float(match[1]) * _YEARS[(match[2] or match[3] or "y")[0]] if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= OLDEST_YEARS:
        raise ValueError(f"is no age of 0 to {OLDEST_YEARS} years")
    return float(value)


def sex_of(value: Any) -> Literal["F", "M"] | None:
    """F or M; None if it is missing, unknown or another one. Raises ValueError if it is none of these."""
    if is_missing(value):
        return None
    text = value.strip().lower() if isinstance(value, str) else "?"
    if text not in _SEXES and text not in _UNKNOWN:
        raise ValueError("is neither F nor M")
    return _SEXES.get(text)


def is_missing(value: Any) -> bool:
    """Whether it is null, or NaN, which data frames write for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))
