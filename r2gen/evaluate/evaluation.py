"""The scores of a run: predictions of each split, the model's and the null rows' scores, metrics.json, the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from r2gen.config.decoding import Decoding
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import NULL_SEED, constant_report, random_reports, shuffled_reports
from r2gen.evaluate.generate import Generator, predict
from r2gen.evaluate.likelihood import Teacher, likelihood
from r2gen.evaluate.nearest import joined, nearest_studies, read_nearest, spread, write_nearest
from r2gen.evaluate.predictions import Prediction, predictions_file, read_predictions, write_predictions
from r2gen.evaluate.recipe import METRICS_FORMAT
from r2gen.evaluate.scores import Metric, Scores, ScoreSpec, Signature
from r2gen.evaluate.scoring import score_reports, sums_of_scores
from r2gen.evaluate.statistics import bootstrap_each, compare
from r2gen.evaluate.wording import wording_entry
from r2gen.pages.images import IMAGE_SIZES_PX
from r2gen.pages.run import shown_studies, write_page
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.files import write_whole
from r2gen.runs.metrics_file import read_metrics
from r2gen.runs.phase import Phase, in_phase


@dataclass(frozen=True)
class ReferenceCut:
    """R2GenGPT's references: cut to so many tokens of the language model, and decoded again."""

    tokens: int
    apply: Callable[[str], str]


class Scored(Generator, Teacher, Protocol):
    """A model whose reports are scored, and its odds of the references."""


class Evaluation:
    """Scores splits of one data set with one decoding profile, and keeps metrics.json and report.html up to date.

    `nearest_most` is how many training studies are looked through for the nearest images, 0 for no such row.
    `profile` is the decoding's name, in file names and headers; `recipe` says which texts are scored; `data_hash`,
    `code` and `quant` say, with the checkpoint and the decoding, what made a prediction; `best` has the weights of the
    scores that pick the best checkpoint; `cut` adds scores against cut references, which then pick it; `original` says
    which of R2GenGPT's choices were on. On ranks other than 0 it generates its share and writes nothing.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        data: ReportData,
        datasets: Mapping[str, StudyDataset],
        metrics: Mapping[str, Metric],
        decoding: Decoding,
        profile: str,
        metrics_file: Path,
        recipe: Signature,
        data_hash: str,
        code: str | None,
        quant: str,
        batch_size: int,
        workers: int,
        best: Mapping[str, float],
        page_studies: int,
        nearest_most: int,
        device: torch.device,
        stop: StopRequest,
        cut: ReferenceCut | None = None,
        original: Sequence[str] = (),
    ) -> None:
        self.run_dir, self.data, self.datasets, self.metrics = run_dir, data, datasets, metrics
        self.decoding, self.profile, self.metrics_file = decoding, profile, metrics_file
        self.data_hash, self.recipe, self.code, self.quant = data_hash, recipe, code, quant
        self.batch_size, self.workers, self.device, self.stop = batch_size, workers, device, stop
        self.best, self.page_studies, self.nearest_most = best, page_studies, nearest_most
        self.cut, self.original = cut, original

    def selection(self, scores: Mapping[str, float]) -> float:
        """The number that picks the best checkpoint, higher is better: the weighted sum of `best`.

        A score of which lower values are better counts with a minus, so that weights are positive in either case.
        Raises UserError where a score has no value: the references do not have what it counts.
        """
        for name in self.best:
            if name not in scores:
                raise UserError(
                    f"evaluate.best names {name}, which has no value on these validation studies (no reference states "
                    "what it counts): choose another score, or raise evaluate.max_studies"
                )
        lower_is_better = {spec.name for spec in self._specs() if not spec.higher_is_better}
        return sum(
            -weight * scores[name] if name in lower_is_better else weight * scores[name]
            for name, weight in self.best.items()
        )

    def _specs(self) -> list[ScoreSpec]:
        return [spec for metric in self.metrics.values() for spec in metric.scores]

    @in_phase(Phase.GENERATION)
    def validate(self, model: Generator, dataset: StudyDataset, *, checkpoint: str) -> dict[str, float]:
        """Scores on the validation studies during training; the page shows their reports until the run ends."""
        predictions = self._generate(model, dataset, "val")
        scores = [dict[str, float]()]
        if dist.is_first():
            write_predictions(self._file("val"), self._header(f"{checkpoint}, in training"), predictions)
            found = self._score(predictions)
            cut = {"model": self._score(predictions, self.cut)} if self.cut else None
            scores = [cut["model"].corpus if cut else found.corpus]
            self._write_metrics(
                {"val": self._entry(len(predictions), {"model": found}, cut)},
                checkpoint=checkpoint,
                scores=found,
                constant=None,
                skipped={},
            )
        return dist.first_of(scores)

    @in_phase(Phase.GENERATION)
    def evaluate(self, model: Scored, splits: Sequence[str], *, checkpoint: str) -> dict[str, Any]:
        """Scores of each split in full, with null rows. Predictions under the same header are not made again."""
        entries, skipped, scores = {}, {}, Scores(corpus={})
        constant = self._constant() if dist.is_first() else None
        nearest = self._nearest(splits)
        for split in splits:
            dataset = self.datasets[split]
            if not len(dataset):
                skipped[split] = "the split is empty"
                continue
            predictions = self._predictions(model, split, checkpoint=checkpoint)
            likely = self._likelihood(model, split, checkpoint=checkpoint)
            if dist.is_first():
                reports = {"model": {one.id: one.report for one in predictions}}
                reports |= self._null_rows(reports["model"], constant, nearest)
                systems = self._systems(predictions, reports)
                cut = self._systems(predictions, reports, self.cut) if self.cut else None
                worded = wording_entry(reports["model"], _references(predictions, None), self._train_reports())
                entries[split] = self._entry(len(predictions), systems, cut) | {"wording": worded, "likelihood": likely}
                if nearest:
                    entries[split]["nearest"] = {
                        "compared": min(self.nearest_most, len(self.datasets["train"])),
                        "train": len(self.datasets["train"]),
                    }
                scores = systems["model"]
                entries[split] |= self._spread(predictions, reports, systems)
                if cut:
                    entries[split]["truncated"] |= self._spread(predictions, reports, cut, self.cut)
        if not dist.is_first():
            return {}
        return self._write_metrics(entries, checkpoint=checkpoint, scores=scores, constant=constant, skipped=skipped)

    def refresh_page(self) -> None:
        if dist.is_first():
            shown = shown_studies(self.run_dir, count=self.page_studies)
            images = {}
            if shown is not None:
                split, ids = shown
                views = {study.id: study.views for study in self.datasets[split].studies}
                images = {
                    id: [self.data.image(view, at_least_px=IMAGE_SIZES_PX[0]) for view in views[id]] for id in ids
                }
            write_page(self.run_dir, images=images)

    def _predictions(self, model: Generator, split: str, *, checkpoint: str) -> list[Prediction]:
        dataset, header = self.datasets[split], self._header(checkpoint)
        known = None
        if dist.is_first():
            known = read_predictions(self._file(split), header, {study.id: study.report for study in dataset.studies})
        known = dist.first_of([known])
        if known is not None:
            return known
        predictions = self._generate(model, dataset, split)
        if dist.is_first():
            write_predictions(self._file(split), header, predictions)
        return predictions

    def _likelihood(self, model: Scored, split: str, *, checkpoint: str) -> dict[str, Any]:
        """How likely the model finds the references; kept where the scores of before were made in the same way."""
        before = _scored_before(self.metrics_file) if dist.is_first() else {}
        same = before.get("made_by") == self._header(checkpoint)
        known: dict[str, Any] | None = before["splits"].get(split, {}).get("likelihood") if same else None
        known = dist.first_of([known])
        if known is not None:
            return known
        found = likelihood(
            model,
            self.datasets[split],
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            stop=self.stop,
            title=f"{split}, references",
        )
        return found.entry()

    def _generate(self, model: Generator, dataset: StudyDataset, title: str) -> list[Prediction]:
        return predict(
            model,
            dataset,
            self.decoding,
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            stop=self.stop,
            title=title,
        )

    def _systems(
        self,
        predictions: Sequence[Prediction],
        reports: Mapping[str, Mapping[str, str]],
        cut: ReferenceCut | None = None,
    ) -> dict[str, Scores]:
        references = _references(predictions, cut)
        return {system: score_reports(self.metrics, references, given) for system, given in reports.items()}

    def _null_rows(
        self, reports: Mapping[str, str], constant: str | None, nearest: Mapping[str, str]
    ) -> dict[str, dict[str, str]]:
        """The reports of each null row that there can be, by the model's reports of the same studies."""
        rows = {}
        if constant is not None:
            rows["constant"] = dict.fromkeys(reports, constant)
        if self._train_reports():
            rows["random"] = random_reports(reports, self._train_reports(), seed=NULL_SEED)
        if nearest:
            of_training = {study.id: study.report for study in self.datasets["train"].studies}
            rows["nearest"] = {id: of_training[nearest[id]] for id in reports}
        if len(reports) > 1:
            rows["shuffled"] = shuffled_reports(reports, seed=NULL_SEED)
        return rows

    def _train_reports(self) -> list[str]:
        return [study.report for study in self.datasets["train"].studies]

    def _nearest(self, splits: Sequence[str]) -> dict[str, str]:
        """Study id to the training study of the nearest images, kept in nearest.json; empty where the row is left out.

        Every rank looks through its share of the training studies.
        """
        train = spread(self.datasets["train"].studies, self.nearest_most)
        if not train:
            return {}
        file = self.run_dir / "nearest.json"
        kept = read_nearest(file, data_hash=self.data_hash, compared=len(train)) if dist.is_first() else {}
        known = dist.first_of([kept])
        new = [study for split in splits for study in self.datasets[split].studies if study.id not in known]
        if not new:
            return known
        own = train[dist.rank() :: dist.world()]
        try:
            found = nearest_studies(self.data, own, new, each=self.stop.leave_if_requested)
        except UserError as error:
            raise UserError(
                f'{error} (the row "nearest" reads training images; evaluate.nearest_studies=0 leaves it out)'
            ) from error
        known |= joined(dist.gather(found))
        if dist.is_first():
            write_nearest(file, known, data_hash=self.data_hash, compared=len(train))
        return known

    def _score(self, predictions: Sequence[Prediction], cut: ReferenceCut | None = None) -> Scores:
        return score_reports(self.metrics, _references(predictions, cut), {one.id: one.report for one in predictions})

    def _spread(
        self,
        predictions: Sequence[Prediction],
        reports: Mapping[str, Mapping[str, str]],
        systems: Mapping[str, Scores],
        cut: ReferenceCut | None = None,
    ) -> dict[str, Any]:
        """`intervals` by system and score; `margins` of the model over the constant report by score, with their p."""
        references = _references(predictions, cut)
        sums = {name: sums_of_scores(self.metrics, references, reports[name], systems[name]) for name in systems}
        intervals = {
            name: {score: asdict(found) for score, found in of_system.items()}
            for name, of_system in bootstrap_each(sums).items()
        }
        margins = compare({name: sums[name] for name in ("constant", "model") if name in sums})
        return {
            "intervals": intervals,
            "margins": {
                one.score: asdict(one.difference) | {"p": one.p, "within_noise": one.within_noise} for one in margins
            },
        }

    def _constant(self) -> str | None:
        """The training report that scores best when given to every validation study; None without validation."""
        train, val = self.datasets["train"].studies, self.datasets["val"].studies
        if not train or not val:
            return None
        metrics = {
            name: metric
            for name, metric in self.metrics.items()
            if any(spec.name in self.best for spec in metric.scores)
        }

        def score(references: Mapping[str, str], reports: Mapping[str, str]) -> float:
            return self.selection(score_reports(metrics, references, reports).corpus)

        return constant_report(self._train_reports(), {study.id: study.report for study in val}, score)

    def _entry(self, studies: int, systems: Mapping[str, Scores], cut: Mapping[str, Scores] | None) -> dict[str, Any]:
        entry = {
            "studies": studies,
            "systems": {name: scores.corpus for name, scores in systems.items()},
            "details": {name: scores.details for name, scores in systems.items() if scores.details},
            "per_report": systems["model"].per_report,
        }
        if self.cut is None or cut is None:
            return entry
        truncated = {
            "tokens": self.cut.tokens,
            "systems": {name: scores.corpus for name, scores in cut.items()},
        }
        return entry | {"truncated": truncated}

    def _write_metrics(
        self,
        entries: Mapping[str, Any],
        *,
        checkpoint: str,
        scores: Scores,
        constant: str | None,
        skipped: Mapping[str, str],
    ) -> dict[str, Any]:
        """Splits scored earlier in the same way stay beside those of now."""
        made_by = self._header(checkpoint)
        before = _scored_before(self.metrics_file)
        alike = {"made_by": made_by, "recipe": self.recipe, "signatures": scores.signatures}
        same = not entries or all(before.get(key) == value for key, value in alike.items())
        kept = {"splits": {}, "per_report": {}, "signatures": {}} | (before if same else {})
        metrics = {
            "format": METRICS_FORMAT,
            "generation": self.profile,
            "checkpoint": checkpoint,
            "made_by": made_by,
            "splits": kept["splits"]
            | {
                split: {key: value for key, value in entry.items() if key != "per_report"}
                for split, entry in entries.items()
            },
            "recipe": self.recipe,
            "signatures": kept["signatures"] | scores.signatures,
            "score_specs": [asdict(spec) for spec in self._specs()],
            "unavailable": scores.unavailable,
            "constant_report": constant,
            "skipped": dict(skipped),
            "original_choices": list(self.original),
            "per_report": kept["per_report"] | {split: entry["per_report"] for split, entry in entries.items()},
        }
        write_whole(self.metrics_file, json.dumps(metrics, indent=1) + "\n")
        return metrics

    def _file(self, split: str) -> Path:
        return predictions_file(self.run_dir, split, self.profile)

    def _header(self, checkpoint: str) -> dict[str, Any]:
        return {
            "checkpoint": checkpoint,
            "profile": self.profile,
            "generation": asdict(self.decoding),
            "quant": self.quant,
            "batch_size": self.batch_size,
            "data_hash": self.data_hash,
            "code": self.code,
        }


def _references(predictions: Sequence[Prediction], cut: ReferenceCut | None) -> dict[str, str]:
    return {one.id: cut.apply(one.reference) if cut else one.reference for one in predictions}


def _scored_before(file: Path) -> dict[str, Any]:
    """The content of the metrics file; empty where there is none, or a broken one, since it is about to be replaced."""
    try:
        return read_metrics(file)
    except UserError:
        return {}
