"""What a metric gives and what it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Scores:
    """Values between 0 and 1 (CIDEr between 0 and 10), with the recipe that made them."""

    corpus: dict[str, float]  # score name, e.g. "bleu_4", to its value over all studies
    per_report: dict[str, dict[str, float]] = field(default_factory=dict)  # score name to study id to value
    # metric to row (a finding, say) to column to value, None where there is none: too much for a table
    details: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    signature: str = ""  # how the number came about: "bleu|tok:space|case:kept|impl:pycocoevalcap-1.2"


class Metric(Protocol):
    """One metric. `conf/metrics/*.yaml` names a class that does this."""

    name: str
    higher_is_better: bool

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Score reports against references; both map the same study ids to text."""
