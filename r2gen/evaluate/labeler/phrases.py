"""The phrase tables (*.yaml beside this file) as compiled patterns."""

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
    excepted: re.Pattern[str] | None  # stretches in which such a word means something else


@cache
def table(name: str) -> Mapping[str, Any]:
    """One of the tables as it stands in its file."""
    rows: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return rows


@cache
def observations() -> tuple[Observation, ...]:
    return tuple(
        Observation(
            name,
            re.compile(words(rows["mention"])),
            re.compile(words(rows["not"])) if "not" in rows else None,
        )
        for name, rows in table("observations").items()
    )


@cache
def assertions() -> re.Pattern[str]:
    return kinds(table("assertions"))


def kinds(phrases: Mapping[str, Iterable[str]]) -> re.Pattern[str]:
    """One pattern with a group a kind; where several fit at one place, the kind listed first wins."""
    return re.compile("|".join(f"(?P<{kind}>{words(of_kind)})" for kind, of_kind in phrases.items()))


def words(phrases: Iterable[str]) -> str:
    """Any of the phrases, between word borders."""
    return f"(?<![a-z0-9])(?:{any_of(phrases)})(?![a-z0-9])"


def any_of(phrases: Iterable[str]) -> str:
    return "|".join(f"(?:{phrase})" for phrase in phrases)


@cache
def digest() -> str:
    """Six characters that change with any phrase."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in FILES)).hexdigest()[:6]
