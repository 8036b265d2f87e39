"""The scores of a split: of the model and the baselines, with intervals and margins over the constant report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.scores import EarlyMetric, Metric, Scores, ScoreSpec
from r2gen.evaluate.scoring import score_reports, score_with, sums_of_scores
from r2gen.evaluate.statistics import Pair, bootstrap_each, compare, holm
from r2gen.evaluate.study_sums import StudySums
from r2gen.evaluate.subgroups import Groups, subgroup_scores
from r2gen.runs.progress import bar, ticking

Reports = Mapping[str, str]  # by study id
TRIED_FIRST = 32  # references
EarlyScores = tuple[Mapping[str, Scores], ...]  # by metric, against the references and the cut ones


@dataclass(frozen=True)
class ReferenceCut:
    """R2GenGPT's references: cut to so many tokens of the language model, and decoded again."""

    tokens: int
    apply: Callable[[str], str]


@dataclass(frozen=True)
class ScoredSystems:
    """Systems, the model among them, scored against the same references."""

    references: Reports
    reports: Mapping[str, Reports]
    scores: Mapping[str, Scores]

    def values(self) -> dict[str, dict[str, float]]:
        """By system and score."""
        return {system: scores.corpus for system, scores in self.scores.items()}

    def statistics(
        self, metrics: Mapping[str, Metric], *, groups: Groups | None = None, drops: Sequence[str] = ()
    ) -> Plain:
        """`intervals` by system and score; `margins` of the model over the constant report by score, with their p.

        `drop_margins` are what each input gives: the model's over itself without it. `subgroups` has the scores of
        groups of studies, by attribute and value.

        `shuffled_margins` are the model's over its own reports of other studies, for the scores in tables. Their p is
        corrected for the number of these scores, since together they decide whether the model uses the images.
        """
        sums = {
            system: sums_of_scores(metrics, self.references, self.reports[system], scores)
            for system, scores in self.scores.items()
        }
        intervals = {
            system: {score: asdict(interval) for score, interval in of_system.items()}
            for system, of_system in bootstrap_each(sums).items()
        }
        in_tables = {spec.name for metric in metrics.values() for spec in metric.scores if spec.column is not None}
        over_shuffled = [pair for pair in _over("shuffled", sums) if pair.score in in_tables]
        corrected = holm([pair.p for pair in over_shuffled])
        margins = _margins(_over("constant", sums))
        drop_margins = {system: _margins(_over(system, sums)) for system in drops}
        # Subgroups come last, since they have draws of their own, and only the last draws are stored.
        more: Plain = {"subgroups": subgroup_scores(groups, sums["model"], in_tables)} if groups else {}
        if drops:
            more["drop_margins"] = drop_margins
        return more | {
            "intervals": intervals,
            "margins": margins,
            "shuffled_margins": _margins(
                replace(pair, p_holm=p) for pair, p in zip(over_shuffled, corrected, strict=True)
            ),
        }


@dataclass(frozen=True)
class ScoredSplit:
    """A split scored against its references, and against cut ones if evaluate.reference asks for it."""

    full: ScoredSystems
    cut: ScoredSystems | None

    def selected(self) -> dict[str, float]:
        """The model's scores that decide about the best checkpoint."""
        return (self.cut or self.full).scores["model"].corpus


@dataclass(frozen=True)
class Scorer:
    """Scores reports with a run's metrics."""

    metrics: Mapping[str, Metric]
    best: Mapping[str, float]  # evaluate.best: weights of the scores that decide about the best checkpoint
    cut: ReferenceCut | None = None

    def specs(self) -> list[ScoreSpec]:
        return [spec for metric in self.metrics.values() for spec in metric.scores]

    def selection(self, scores: Mapping[str, float]) -> float:
        """The number that decides about the best checkpoint, higher is better: the weighted sum of `best`.

        A score of which lower values are better is subtracted. Raises UserError if a score has no value.
        """
        for name in self.best:
            if name not in scores:
                raise UserError(
                    f"evaluate.best names {name}, which has no value on these validation studies (no reference states "
                    "what it counts): choose another score, or raise evaluate.max_studies"
                )
        lower_is_better = {spec.name for spec in self.specs() if not spec.higher_is_better}
        return sum(
            -weight * scores[name] if name in lower_is_better else weight * scores[name]
            for name, weight in self.best.items()
        )

    def selection_of(self, references: Reports, reports: Reports) -> float:
        """The selection of some reports. Only the metrics that it needs are computed."""
        return self.selection(score_reports(self._selecting(), references, reports).corpus)

    @property
    def selects_early(self) -> bool:
        """Whether a forked process can compute the selection, as it can `score_early`."""
        return all(map(_is_plain, self._selecting().values()))

    def _selecting(self) -> dict[str, Metric]:
        return {
            name: metric
            for name, metric in self.metrics.items()
            if any(spec.name in self.best for spec in metric.scores)
        }

    def start(self, references: Reports, reports: Reports) -> None:
        """Let metrics that can score these reports in the background. The scores come from `score`."""
        for metric in self.metrics.values():
            if isinstance(metric, EarlyMetric):
                for texts in self._references(references):
                    metric.start({id: texts[id] for id in reports}, reports)

    def score_early(self, references: Reports, reports: Reports) -> EarlyScores:
        """The scores of the metrics that need neither torch nor Java's process, so that a forked process has them."""
        metrics = {name: metric for name, metric in self.metrics.items() if _is_plain(metric)}
        return tuple(
            {name: score_with(name, metric, texts, reports) for name, metric in metrics.items()}
            for texts in self._references(references)
        )

    def score(
        self,
        predictions: Sequence[Prediction],
        baselines: Mapping[str, Reports],
        early: Mapping[str, EarlyScores] | None = None,
        *,
        title: str = "scoring",
    ) -> ScoredSplit:
        """The scores of the model's predictions, and of each baseline's reports of the same studies.

        `early` has the scores of some baselines in some metrics. A bar with this title shows the metric at work.
        """
        systems = {"model": reports_of(predictions)} | dict(baselines)
        references = self._references({prediction.id: prediction.reference for prediction in predictions})
        nothing: EarlyScores = ({},) * len(references)

        def of_systems(index: int) -> ScoredSystems:
            scores = {
                name: score_reports(
                    self.metrics,
                    references[index],
                    reports,
                    earlier=(early or {}).get(name, nothing)[index],
                    begin=partial(begin, name),
                )
                for name, reports in systems.items()
            }
            return ScoredSystems(references[index], systems, scores)

        def begin(system: str, metric: str) -> None:
            shown.set_description(f"{title}: {metric} of {system}", refresh=False)
            shown.update()

        with (
            bar(total=len(references) * len(systems) * len(self.metrics), title=title, unit="metric") as shown,
            ticking(shown),
        ):
            return ScoredSplit(of_systems(0), of_systems(1) if self.cut is not None else None)

    def _references(self, references: Reports) -> list[Reports]:
        """The references, and the cut ones."""
        if self.cut is None:
            return [references]
        return [references, {id: self.cut.apply(reference) for id, reference in references.items()}]

    def entry(
        self,
        scored: ScoredSplit,
        *,
        statistics: bool,
        groups: Groups | None = None,
        drops: Sequence[str] = (),
    ) -> Plain:
        """The scores of a split for metrics.json; `statistics` adds intervals and margins.

        `groups` are groups of studies by attribute and value, `drops` the systems that are the model without an input.
        """
        full = scored.full.scores
        entry: Plain = {
            "studies": len(scored.full.references),
            "systems": scored.full.values(),
            "details": {system: scores.details for system, scores in full.items() if scores.details},
            "per_report": full["model"].per_report,
        }
        if statistics:
            entry |= scored.full.statistics(self.metrics, groups=groups, drops=drops)
        if self.cut is not None and scored.cut is not None:
            entry["truncated"] = {"tokens": self.cut.tokens, "systems": scored.cut.values()}
            if statistics:
                entry["truncated"] |= scored.cut.statistics(self.metrics, drops=drops)
        return entry


def refuse_without_value(metrics: Mapping[str, Metric], best: Iterable[str], references: Reports) -> None:
    """Raise UserError if a score of `best` has no value on the references, even for reports that equal them.

    Metrics with weights or a process of their own are not tried.
    """
    few = dict(islice(references.items(), TRIED_FIRST))  # enough for nearly every score
    for key, metric in metrics.items():
        names = {spec.name for spec in metric.scores}.intersection(best)
        if not names or not _is_plain(metric):
            continue
        with suppress(UserError):  # of a metric that needs one reference with a finding
            if names <= score_with(key, metric, few, few).corpus.keys():
                continue
        scores = score_with(key, metric, references, references)
        missing = sorted(names - scores.corpus.keys())
        if missing and key not in scores.unavailable:
            raise UserError(
                f"evaluate.best: {missing[0]} has no value, since no reference of the {len(references):,} validation "
                f"studies states what metrics=[{key}] counts. Add bleu to metrics, set evaluate.best to another score, "
                "or raise evaluate.max_studies"
            )


def _over(baseline: str, sums: Mapping[str, Sequence[StudySums]]) -> list[Pair]:
    """The model compared with a baseline."""
    return compare({system: sums[system] for system in (baseline, "model") if system in sums})


def _margins(pairs: Iterable[Pair]) -> Plain:
    return {pair.score: asdict(pair.difference) | {"p": pair.p, "within_noise": pair.within_noise} for pair in pairs}


def _is_plain(metric: Metric) -> bool:
    return not metric.weights and not isinstance(metric, EarlyMetric)


def reports_of(predictions: Sequence[Prediction]) -> dict[str, str]:
    return {prediction.id: prediction.report for prediction in predictions}
