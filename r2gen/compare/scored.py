"""Scores the reports of every system in the same way, and compares them with what runs recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r2gen.compare.agreement import RESCORE
from r2gen.compare.source import Source
from r2gen.errors import UserError
from r2gen.evaluate.scores import Metric, Scores
from r2gen.evaluate.scoring import joined_scores, score_reports, sums_of_scores
from r2gen.evaluate.statistics import Interval, bootstrap_each
from r2gen.evaluate.study_sums import StudySums

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Scored:
    """The scores of a system, and the sums of each study from which intervals and tests are computed."""

    scores: Scores
    sums: list[StudySums]


def intervals(scored: Mapping[str, Scored]) -> dict[str, dict[str, Interval]]:
    """Every score with its interval, by system. A score without sums has no interval."""
    drawn = bootstrap_each({system: of_system.sums for system, of_system in scored.items()})
    return {
        system: {
            name: drawn[system].get(name, Interval(value=value, low=None, high=None, draws=0))
            for name, value in of_system.scores.corpus.items()
        }
        for system, of_system in scored.items()
    }


def score_systems(
    metrics: Mapping[str, Metric], references: Mapping[str, str], sources: Sequence[Source]
) -> dict[str, Scored]:
    """The scores of every source, by name."""
    scored, ended = {}, dict[str, str]()  # a metric that failed once is not waited for again
    for source in sources:
        scores = Scores(corpus={})
        for key, metric in metrics.items():
            of_metric = _recorded(source, key, metric, references)
            if of_metric is None and key in ended:
                of_metric = Scores(corpus={}, unavailable={key: ended[key]})
            elif of_metric is None:
                of_metric = _signed(source, key, score_reports({key: metric}, references, source.reports))
            ended |= of_metric.unavailable
            scores = joined_scores(scores, of_metric, metric=key)
        scored[source.name] = Scored(scores, sums_of_scores(metrics, references, source.reports, scores))
    return scored


def _recorded(source: Source, key: str, metric: Metric, references: Mapping[str, str]) -> Scores | None:
    """The recorded scores of a metric that reads weights, so that the weights need not be on this machine.

    None for any other metric, and if metrics.json does not have its scores of each report.
    """
    recorded = source.recorded
    if recorded is None or key not in recorded.signatures or not metric.weights:
        return None
    names = [spec.name for spec in metric.scores if spec.name in recorded.corpus]
    per_report = {name: recorded.per_report[name] for name in names if name in recorded.per_report}
    if not per_report or any(not values.keys() <= references.keys() for values in per_report.values()):
        return None
    return Scores(
        corpus={name: recorded.corpus[name] for name in names},
        per_report=per_report,
        details={key: recorded.details[key]} if key in recorded.details else {},
        signatures={key: recorded.signatures[key]},
    )


def _signed(source: Source, key: str, scores: Scores) -> Scores:
    """The scores with the signature that metrics.json has, if any, so that a different one is found later."""
    recorded = source.recorded.signatures.get(key) if source.recorded is not None else None
    return (
        scores
        if recorded is None or key not in scores.signatures
        else replace(scores, signatures=scores.signatures | {key: recorded})
    )


def refuse_stale(source: Source, scored: Scored) -> None:
    """Raise UserError if the recorded scores are not those of the run's predictions."""
    recorded = source.recorded.corpus if source.recorded is not None else {}
    for sums in scored.sums:
        for name, value in zip(sums.names, sums.of_all(), strict=True):
            if name in recorded and not abs(value - recorded[name]) < _ROUNDING:
                raise UserError(
                    f"{source.path}: {name} is {recorded[name]:.4f} in metrics.json, but {value:.4f} for its "
                    f"predictions. Score the run again (task=evaluate run_dir=DIR). {RESCORE}"
                )
