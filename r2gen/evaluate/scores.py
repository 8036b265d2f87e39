"""What a metric gives and what it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Signature = dict[str, str]  # how a number came about: {"implementation": "pycocoevalcap", "version": "1.2", ...}


class UnavailableError(Exception):
    """A metric has no value here: its package or its weights are missing. The message says why, and how to get them."""


@dataclass(frozen=True)
class Scores:
    """Values between 0 and 1 (CIDEr between 0 and 10), with the recipe that made them."""

    corpus: dict[str, float]  # score name, e.g. "bleu_4", to its value over all studies
    per_report: dict[str, dict[str, float]] = field(default_factory=dict)  # score name to study id to value
    # metric to row (a finding, say) to column to value, None where there is none: too much for a table
    details: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    # score name to study id to the numbers that are added up over studies, where the corpus value is no mean
    sums: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)  # by metric; scores compare only where it is equal
    unavailable: dict[str, str] = field(default_factory=dict)  # metric to why it has no value


class Metric(Protocol):
    """One metric. `conf/metrics/*.yaml` names a class that does this."""

    name: str
    higher_is_better: bool

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Score reports against references; both map the same study ids to text.

        Raises UnavailableError where the metric's package or weights are missing, UserError where what is there, or
        the texts, cannot be used.
        """
