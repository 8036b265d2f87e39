"""The phrase tables, the YAML files of this folder, as compiled patterns.

`digest` covers these files byte by byte, comments included, and is in the signature of the metric `findings`: after any
edit, scores can no longer be compared with those recorded before.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILES = tuple(
    Path(__file__).with_name(f"{name}.yaml") for name in ("observations", "assertions", "clauses", "sizes", "spelling")
)


@dataclass(frozen=True)
class Observation:
    name: str
    mention: re.Pattern[str]
    excepted: re.Pattern[str] | None  # phrases in which the words of a mention mean something else


@cache
def table(name: str) -> Mapping[str, Any]:
    """The content of one of the YAML files."""
    content: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return content


@cache
def observations() -> tuple[Observation, ...]:
    return tuple(
        Observation(
            name,
            re.compile(whole_words(phrases["mention"])),
            re.compile(whole_words(phrases["not"])) if "not" in phrases else None,
        )
        for name, phrases in table("observations").items()
    )


@cache
def assertions() -> re.Pattern[str]:
    return kinds_pattern(table("assertions"))


def kinds_pattern(phrases: Mapping[str, Iterable[str]]) -> re.Pattern[str]:
    """One pattern with a named group per kind. If several kinds match at a position, the one listed first wins."""
    return re.compile("|".join(f"(?P<{kind}>{whole_words(of_kind)})" for kind, of_kind in phrases.items()))


def whole_words(phrases: Iterable[str]) -> str:
    """A pattern of any of the phrases, between word boundaries."""
    return f"(?<![a-z0-9])(?:{any_of(phrases)})(?![a-z0-9])"


def any_of(phrases: Iterable[str]) -> str:
    """A pattern of any of the phrases."""
    return "|".join(f"(?:{phrase})" for phrase in phrases)


@cache
def digest() -> str:
    """Six hex digits of the phrase tables."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in FILES)).hexdigest()[:6]
