"""Scores of every system, with one recipe, from the reports; what a run recorded must be the same. No torch."""

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
    """One system's scores, and the sums of every study that intervals and tests are drawn from."""

    scores: Scores
    sums: list[StudySums]


def intervals(scored: Mapping[str, Scored]) -> dict[str, dict[str, Interval]]:
    """By system, every score with its interval; without ends where there are no sums of it."""
    found = bootstrap_each({system: one.sums for system, one in scored.items()})
    return {
        system: {
            name: found[system].get(name, Interval(value=value, low=None, high=None, draws=0))
            for name, value in one.scores.corpus.items()
        }
        for system, one in scored.items()
    }


def score_systems(
    metrics: Mapping[str, Metric], references: Mapping[str, str], sources: Sequence[Source]
) -> dict[str, Scored]:
    """By system."""
    found = {}
    for source in sources:
        scores = Scores(corpus={})
        for key, metric in metrics.items():
            of_metric = _recorded(source, key, metric, references)
            if of_metric is None:
                of_metric = _signed(source, key, score_reports({key: metric}, references, source.reports))
            scores = joined_scores(scores, of_metric, metric=key)
        found[source.name] = Scored(scores, sums_of_scores(metrics, references, source.reports, scores))
    return found


def _recorded(source: Source, key: str, metric: Metric, references: Mapping[str, str]) -> Scores | None:
    """The recorded scores of a metric that reads weights, so that the weights need not be on this machine.

    None for another metric, and where metrics.json does not have its scores report by report.
    """
    kept = source.recorded
    if kept is None or key not in kept.signatures or not metric.weights:
        return None
    names = [spec.name for spec in metric.scores if spec.name in kept.corpus]
    per_report = {name: kept.per_report[name] for name in names if name in kept.per_report}
    if not per_report or any(not values.keys() <= references.keys() for values in per_report.values()):
        return None
    return Scores(
        corpus={name: kept.corpus[name] for name in names},
        per_report=per_report,
        details={key: kept.details[key]} if key in kept.details else {},
        signatures={key: kept.signatures[key]},
    )


def _signed(source: Source, key: str, scores: Scores) -> Scores:
    """Scores made here, under the signature that metrics.json has: where that is another, systems do not agree."""
    kept = source.recorded.signatures.get(key) if source.recorded is not None else None
    return scores if kept is None else replace(scores, signatures=scores.signatures | {key: kept})


def refuse_stale(source: Source, scored: Scored) -> None:
    """Raises UserError where recorded scores are not those of the reports beside them."""
    kept = source.recorded.corpus if source.recorded is not None else {}
    for one in scored.sums:
        for name, value in zip(one.names, one.of_all(), strict=True):
            if name in kept and not abs(value - kept[name]) < _ROUNDING:
                raise UserError(
                    f"{source.path}: metrics.json says {name} {kept[name]:.4f} and its predictions give "
                    f"{value:.4f}: score the run again (task=evaluate run_dir=DIR); {RESCORE}"
                )
