"""What a metric is: the facts it states about its scores, and what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from r2gen.evaluate.study_sums import StudySums  # commands that score nothing do not load numpy

LAST_COLUMN = 100
Signature = dict[str, str]  # how a number came about: {"implementation": "pycocoevalcap", "version": "1.2", ...}


class UnavailableError(Exception):
    """A metric has no value here: its package or its weights are missing. The message says why, and how to get them."""


@dataclass(frozen=True)
class ScoreSpec:
    """One score of a metric, as `evaluate.best`, tables, pages and comparisons need to know it."""

    name: str  # in metrics.json and in evaluate.best, for example "bleu_4"
    title: str  # on pages, for example "BLEU-4"
    column: int | None = LAST_COLUMN  # order of the columns of a table, lowest first; None: the score has no column
    higher_is_better: bool = True
    interval_note: str | None = None  # what of the score stays fixed when studies are resampled


def specs_from(metrics: Mapping[str, Any]) -> tuple[ScoreSpec, ...]:
    """The specs in the content of a metrics file."""
    return tuple(ScoreSpec(**spec) for spec in metrics.get("score_specs", ()))


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
    """One metric: a class that `conf/metrics/NAME.yaml` names.

    Its module is imported before a run starts, to read `scores` and `weights`, so it must import torch, transformers
    and Java only where they are used.
    """

    name: str
    scores: tuple[ScoreSpec, ...]  # the first one represents the metric where only one score is shown
    weights: tuple[str, ...]  # the constructor's options that hold paths of weights; null makes the metric unavailable

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Score reports against references; both map the same study ids to text.

        Raises UnavailableError where the metric's package or weights are missing, UserError where what is there, or
        the texts, cannot be used.
        """

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> "StudySums | None":
        """What each study adds to the metric's scores, from which intervals and tests are computed.

        `scores` holds what `__call__` returned for these texts. None where the scores do not follow from sums over
        studies: they are then shown without an interval.
        """
