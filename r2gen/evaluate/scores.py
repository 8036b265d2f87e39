"""The protocol of metrics: the facts that a metric states about its scores, and what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from r2gen.evaluate.study_sums import StudySums  # commands that score nothing do not load numpy

LAST_COLUMN = 100
Signature = dict[str, str]  # how a score is computed: {"implementation": "pycocoevalcap", "version": "1.2", ...}


class UnavailableError(Exception):
    """A metric has no value because its package or its weights are missing. The message says which, and the fix."""


@dataclass(frozen=True)
class ScoreSpec:
    """One score of a metric, as evaluate.best, tables, pages and comparisons need to know it."""

    name: str  # in metrics.json and in evaluate.best, for example "bleu_4"
    title: str  # on pages, for example "BLEU-4"
    column: int | None = LAST_COLUMN  # tables order columns by it, lowest first; None: no column
    higher_is_better: bool = True
    interval_note: str | None = None  # what stays fixed in the score when studies are resampled


def specs_from(metrics: Mapping[str, Any]) -> tuple[ScoreSpec, ...]:
    """The specs in the content of a metrics file."""
    names = {item.name for item in fields(ScoreSpec)}
    return tuple(
        ScoreSpec(**{key: value for key, value in spec.items() if key in names})
        for spec in metrics.get("score_specs", ())
    )


@dataclass(frozen=True)
class Scores:
    """The scores of some reports: values between 0 and 1 (CIDEr between 0 and 10), with their signatures."""

    corpus: dict[str, float]  # by score, such as "bleu_4": the value over all studies
    per_report: dict[str, dict[str, float]] = field(default_factory=dict)  # by score and study id
    # By metric, finding and figure; None if a figure has no value. Shown on pages only.
    details: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    # By score and study id: numbers that are summed over studies, if the corpus value is not a mean.
    sums: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)  # by metric; scores compare only if it is equal
    unavailable: dict[str, str] = field(default_factory=dict)  # metric to the reason why it has no value


class Metric(Protocol):
    """A metric, which `conf/metrics/NAME.yaml` names.

    Its module is imported before a run starts, to read `scores` and `weights`. It must therefore import torch and
    transformers, and start Java, only in the methods that use them.
    """

    name: str
    scores: tuple[ScoreSpec, ...]  # the first one represents the metric where only one score is shown
    weights: tuple[str, ...]  # options that are paths of weights; without them the metric is unavailable

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Score reports against references; both map the same study ids to text.

        Raises UnavailableError if the metric's package or weights are missing, and UserError if they or the texts
        cannot be used.
        """

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> "StudySums | None":
        """What each study adds to the metric's scores, from which intervals and tests are computed.

        `scores` is what `__call__` returned for these texts. None if the scores are not computed from sums over
        studies; they are then shown without an interval.
        """


@runtime_checkable
class EarlyMetric(Protocol):
    """A metric with a process of its own, which can score some reports while the model writes the others."""

    def start(self, references: Mapping[str, str], reports: Mapping[str, str]) -> None:
        """Score these reports in the background: `__call__` waits less for them. Errors are raised by `__call__`."""

    def refuse_failed(self, *, wait_s: float) -> None:
        """Raise UserError if the process has failed already, or does so within `wait_s` seconds."""
