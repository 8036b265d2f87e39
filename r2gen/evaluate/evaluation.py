"""The evaluation of a run: predictions and scores of its splits, metrics.json and report.html."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from r2gen.config.drop import system_of
from r2gen.config.plain import Plain
from r2gen.data.dataset import StudyDataset
from r2gen.evaluate.baseline_reports import BaselineReports
from r2gen.evaluate.early_baselines import EarlyBaselines
from r2gen.evaluate.early_page import EarlyPage
from r2gen.evaluate.generate import Generator
from r2gen.evaluate.likelihood import sample
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.predicting import Dropped, Predictor, ScoredModel
from r2gen.evaluate.predictions import Header, Prediction
from r2gen.evaluate.run_page import RunPage
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.set_scores import scores_of_sets
from r2gen.evaluate.split_scores import Scorer, reports_of
from r2gen.evaluate.subgroups import Groups, groups_of
from r2gen.evaluate.wording import wording_entry
from r2gen.ranks import dist
from r2gen.ranks.forked import Forked
from r2gen.runs.phase import Phase, in_phase


@dataclass(frozen=True)
class Evaluation:
    """Scores splits of one data set with one decoding profile.

    Every rank calls the same methods, since each generates its share of the reports; rank 0 scores them and writes.
    """

    predictor: Predictor
    baselines: BaselineReports
    scorer: Scorer
    metrics: MetricsWriter
    page: RunPage
    drop: Sequence[str] = ()  # evaluate.drop
    likelihood_studies: int | None = None  # evaluate.likelihood_studies

    @in_phase(Phase.GENERATION)
    def validate(self, model: Generator, validation: StudyDataset, *, checkpoint: str) -> dict[str, float]:
        """The scores of a validation in training, without baselines and intervals. The page shows its reports."""
        predictions = self.predictor.predict_in_training(
            model, validation, checkpoint=checkpoint, finished=self._start_scoring if dist.is_first() else None
        )
        selected = [dict[str, float]()]
        if dist.is_first():
            scored = self.scorer.score(predictions, {}, title="scoring val")
            selected = [scored.selected()]
            self.metrics.write(
                {"val": self.scorer.entry(scored, statistics=False)},
                made_by=self.predictor.header(checkpoint),
                scores=scored.full.scores["model"],
            )
        return dist.first_of(selected)

    @in_phase(Phase.GENERATION)
    def evaluate(self, model: ScoredModel, splits: Sequence[str], *, checkpoint: str) -> None:
        """Write the scores of whole splits, with baselines and intervals, to metrics.json."""
        made_by = self.predictor.header(checkpoint)
        skipped = {split: "the split is empty" for split in splits if not len(self.predictor.datasets[split])}
        splits = [split for split in splits if split not in skipped]
        with self._early(splits) as early:
            page = EarlyPage(self.page, splits, fork=early.fork) if early is not None else None
            generated, of_texts = {}, dict[str, Forked[tuple[Groups, Plain]]]()
            for split in splits:
                finished = partial(early.finished, split) if early is not None else None
                predictions = self.predictor.predict(model, split, checkpoint=checkpoint, finished=finished)
                if finished is not None:
                    finished(predictions)  # those of other ranks and from the file
                if early is not None and page is not None:
                    early.written(split, predictions)
                    page.written(split, predictions)
                    of_texts[split] = early.fork(partial(self._of_texts, split, predictions))
                without = {
                    system_of(drop): self.predictor.predict_without(model, split, checkpoint=checkpoint, drop=drop)
                    for drop in self.drop
                }
                generated[split] = predictions, without, self._likelihood(model, split, made_by=made_by)
            if early is not None and page is not None:  # after all splits, so that the model never waits for scores
                entries, scores = {}, Scores(corpus={})
                for split, (predictions, without, likelihood) in generated.items():
                    entries[split], scores = self._entry(split, predictions, without, early, of_texts[split])
                    entries[split]["likelihood"] = likelihood
                    if early.nearest:
                        entries[split]["nearest"] = self.baselines.searched()
                early.finish()
                self.metrics.write(entries, made_by=made_by, scores=scores, constant=early.constant, skipped=skipped)
                page.finish()

    def _entry(
        self,
        split: str,
        predictions: Sequence[Prediction],
        without: Mapping[str, Dropped],
        early: EarlyBaselines,
        of_texts: Forked[tuple[Groups, Plain]],
    ) -> tuple[Plain, Scores]:
        """The scores of a split for metrics.json, and those of the model."""
        baselines, scores_early = early.of(split)
        groups, wording = of_texts.result()
        others = {system: reports_of(drop.predictions) for system, drop in without.items() if drop.changed}
        studies = self.predictor.datasets[split].studies
        scored = self.scorer.score(predictions, baselines | others, scores_early, title=f"scoring {split}")
        entry = self.scorer.entry(scored, statistics=True, groups=groups, drops=list(others))
        if sets := scores_of_sets(self.scorer, studies, predictions, baselines | others, split=split):
            entry["sets"] = sets
        entry["wording"] = wording
        if without:
            entry["drops"] = {system: {"changed": drop.changed} for system, drop in without.items()}
        return entry, scored.full.scores["model"]

    def _early(self, splits: Sequence[str]) -> AbstractContextManager[EarlyBaselines | None]:
        """The baselines on rank 0, and None on the others."""
        return EarlyBaselines(self.baselines, self.scorer, splits) if dist.is_first() else nullcontext()

    def _of_texts(self, split: str, predictions: Sequence[Prediction]) -> tuple[Groups, Plain]:
        """The subgroups of a split, and the wording of its reports: what needs no scores."""
        references = {prediction.id: prediction.reference for prediction in predictions}
        wording = wording_entry(reports_of(predictions), references, self.baselines.train_reports())
        return groups_of(self.predictor.datasets[split].studies), wording

    def _start_scoring(self, predictions: Sequence[Prediction]) -> None:
        references = {prediction.id: prediction.reference for prediction in predictions}
        self.scorer.start(references, reports_of(predictions))

    def refresh_page(self) -> None:
        if dist.is_first():
            self.page.write()

    def _likelihood(self, model: ScoredModel, split: str, *, made_by: Header) -> Plain:
        studies = sample(self.predictor.datasets[split].studies, self.likelihood_studies)
        stored = None
        if dist.is_first():
            stored = self.metrics.stored_likelihood(split, made_by=made_by, studies=len(studies))
        stored = dist.first_of([stored])
        return stored if stored is not None else self.predictor.likelihood(model, split, studies)
