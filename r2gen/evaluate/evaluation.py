"""The scores of a run: predictions of each split, the model's and the null rows' scores, metrics.json, the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from r2gen import dist
from r2gen.compat import SCORES_OF
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import constant_report, shuffled_reports
from r2gen.evaluate.generate import Generator, predict
from r2gen.evaluate.html import FILM_SIZES_PX, shown_studies, write_page
from r2gen.evaluate.likelihood import Teacher, likelihood
from r2gen.evaluate.predictions import Prediction, predictions_file, read_predictions, write_predictions
from r2gen.evaluate.scores import Metric, Scores
from r2gen.evaluate.scoring import score_reports
from r2gen.lm.decoding_profile import Decoding
from r2gen.run_folder import write_whole
from r2gen.stop import StopRequest

FORMAT = 1
NULL_SEED = 0  # of the shuffled row


@dataclass(frozen=True)
class ReferenceCut:
    """R2GenGPT's references: cut to so many tokens of the language model, and decoded again."""

    tokens: int
    apply: Callable[[str], str]


class Scored(Generator, Teacher, Protocol):
    """A model whose reports are scored, and its odds of the references."""


class Evaluation:
    """Scores splits of one data set with one decoding profile, and keeps metrics.json and report.html up to date.

    `profile` is the decoding's name, in file names and headers; `data_hash`, `code` and `quant` say, with the
    checkpoint and the decoding, what made a prediction; `best` has the weights of the scores that pick the best
    checkpoint; `cut` adds scores against cut references, which then pick it; `original` says which of R2GenGPT's
    choices were on. On ranks other than 0 it generates its share and writes nothing.
    """

    def __init__(
        self, *, run_dir: Path, data: ReportData, datasets: Mapping[str, StudyDataset], metrics: Mapping[str, Metric],
        decoding: Decoding, profile: str, metrics_file: Path, data_hash: str, code: str | None, quant: str,
        batch_size: int, workers: int, best: Mapping[str, float], page_studies: int, device: torch.device,
        stop: StopRequest, cut: ReferenceCut | None = None, original: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.run_dir, self.data, self.datasets, self.metrics = run_dir, data, datasets, metrics
        self.decoding, self.profile, self.metrics_file = decoding, profile, metrics_file
        self.data_hash, self.code, self.quant = data_hash, code, quant
        self.batch_size, self.workers, self.device, self.stop = batch_size, workers, device, stop
        self.best, self.page_studies = best, page_studies
        self.cut, self.original = cut, original

    def selection(self, scores: Mapping[str, float]) -> float:
        """The number that picks the best checkpoint: the weighted sum of `best`.

        Raises UserError where a score has no value: the references do not have what it counts.
        """
        for name in self.best:
            if name not in scores:
                raise UserError(
                    f"evaluate.best names {name}, which has no value on these validation studies (no reference states "
                    "what it counts): choose another score, or raise evaluate.max_studies"
                )
        return sum(weight * scores[name] for name, weight in self.best.items())

    def validate(self, model: Generator, dataset: StudyDataset, *, checkpoint: str) -> dict[str, float]:
        """Scores on the validation studies during training; the page shows their reports until the run ends."""
        predictions = self._generate(model, dataset, "val")
        scores = [dict[str, float]()]
        if dist.is_first():
            write_predictions(self._file("val"), self._header(f"{checkpoint}, in training"), predictions)
            found = self._score(predictions)
            cut = {"model": self._score(predictions, self.cut)} if self.cut else None
            scores = [cut["model"].corpus if cut else found.corpus]
            self._write_metrics({"val": self._entry(len(predictions), {"model": found}, cut)}, checkpoint=checkpoint,
                                signature=found.signature, constant=None, skipped={})  # fmt: skip
        return dist.first_of(scores)

    def evaluate(self, model: Scored, splits: Sequence[str], *, checkpoint: str) -> dict[str, Any]:
        """Scores of each split in full, with null rows. Predictions under the same header are not made again."""
        entries, skipped, signature = {}, {}, ""
        constant = self._constant() if dist.is_first() else None
        for split in splits:
            dataset = self.datasets[split]
            if not len(dataset):
                skipped[split] = "the split is empty"
                continue
            predictions = self._predictions(model, split, checkpoint=checkpoint)
            likely = self._likelihood(model, split, checkpoint=checkpoint)
            if dist.is_first():
                systems = self._systems(predictions, constant)
                cut = self._systems(predictions, constant, self.cut) if self.cut else None
                entries[split] = self._entry(len(predictions), systems, cut) | {"likelihood": likely}
                signature = systems["model"].signature
        if not dist.is_first():
            return {}
        return self._write_metrics(entries, checkpoint=checkpoint, signature=signature, constant=constant,
                                   skipped=skipped)  # fmt: skip

    def refresh_page(self) -> None:
        if dist.is_first():
            shown = shown_studies(self.run_dir, count=self.page_studies)
            films = {}
            if shown is not None:
                split, ids = shown
                views = {study.id: study.views for study in self.datasets[split].studies}
                films = {id: [self.data.film(view, at_least_px=FILM_SIZES_PX[0]) for view in views[id]] for id in ids}
            write_page(self.run_dir, films=films)

    def _predictions(self, model: Generator, split: str, *, checkpoint: str) -> list[Prediction]:
        dataset, header = self.datasets[split], self._header(checkpoint)
        known = None
        if dist.is_first():
            known = read_predictions(self._file(split), header, [study.id for study in dataset.studies])
        known = dist.first_of([known])
        if known is not None:
            return known
        predictions = self._generate(model, dataset, split)
        if dist.is_first():
            write_predictions(self._file(split), header, predictions)
        return predictions

    def _likelihood(self, model: Scored, split: str, *, checkpoint: str) -> dict[str, Any]:
        """How likely the model finds the references; kept where the scores of before were made in the same way."""
        before = read_metrics(self.metrics_file) if dist.is_first() else {}
        same = before.get("made_by") == self._header(checkpoint)
        known: dict[str, Any] | None = before["splits"].get(split, {}).get("likelihood") if same else None
        known = dist.first_of([known])
        if known is not None:
            return known
        found = likelihood(model, self.datasets[split], batch_size=self.batch_size, workers=self.workers,
                           device=self.device, stop=self.stop, title=f"{split}, references")  # fmt: skip
        return found.entry()

    def _generate(self, model: Generator, dataset: StudyDataset, title: str) -> list[Prediction]:
        return predict(model, dataset, self.decoding, batch_size=self.batch_size, workers=self.workers,
                       device=self.device, stop=self.stop, title=title)  # fmt: skip

    def _systems(self, predictions: Sequence[Prediction], constant: str | None,
                 cut: ReferenceCut | None = None) -> dict[str, Scores]:  # fmt: skip
        reports = {one.id: one.report for one in predictions}
        references = _references(predictions, cut)
        systems = {"model": self._score(predictions, cut)}
        if constant is not None:
            systems["constant"] = score_reports(self.metrics, references, dict.fromkeys(references, constant))
        if len(reports) > 1:
            systems["shuffled"] = score_reports(self.metrics, references, shuffled_reports(reports, seed=NULL_SEED))
        return systems

    def _score(self, predictions: Sequence[Prediction], cut: ReferenceCut | None = None) -> Scores:
        return score_reports(self.metrics, _references(predictions, cut), {one.id: one.report for one in predictions})

    def _constant(self) -> str | None:
        """The training report that scores best when given to every validation study; None without validation."""
        train, val = self.datasets["train"].studies, self.datasets["val"].studies
        if not train or not val:
            return None
        metrics = {name: metric for name, metric in self.metrics.items()
                   if any(score in self.best for score in SCORES_OF.get(name, (name,)))}  # fmt: skip

        def score(references: Mapping[str, str], reports: Mapping[str, str]) -> float:
            return self.selection(score_reports(metrics, references, reports).corpus)

        return constant_report([study.report for study in train], {study.id: study.report for study in val}, score)

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

    def _write_metrics(self, entries: Mapping[str, Any], *, checkpoint: str, signature: str, constant: str | None,
                       skipped: Mapping[str, str]) -> dict[str, Any]:  # fmt: skip
        """Splits scored earlier in the same way stay beside those of now."""
        made_by = self._header(checkpoint)
        before = read_metrics(self.metrics_file)
        kept = before if before.get("made_by") == made_by else {"splits": {}, "per_report": {}}
        metrics = {
            "format": FORMAT, "generation": self.profile, "checkpoint": checkpoint, "made_by": made_by,
            "splits": kept["splits"] | {split: {key: value for key, value in entry.items() if key != "per_report"}
                                        for split, entry in entries.items()},
            "signatures": dict(part.split("|", 1) for part in signature.split("; ") if part),
            "constant_report": constant, "skipped": dict(skipped), "original_choices": list(self.original),
            "per_report": kept["per_report"] | {split: entry["per_report"] for split, entry in entries.items()},
        }  # fmt: skip
        write_whole(self.metrics_file, json.dumps(metrics, indent=1) + "\n")
        return metrics

    def _file(self, split: str) -> Path:
        return predictions_file(self.run_dir, split, self.profile)

    def _header(self, checkpoint: str) -> dict[str, Any]:
        return {"checkpoint": checkpoint, "profile": self.profile, "generation": asdict(self.decoding),
                "quant": self.quant, "batch_size": self.batch_size, "data_hash": self.data_hash,
                "code": self.code}  # fmt: skip


def _references(predictions: Sequence[Prediction], cut: ReferenceCut | None) -> dict[str, str]:
    return {one.id: cut.apply(one.reference) if cut else one.reference for one in predictions}


def read_metrics(file: Path) -> dict[str, Any]:
    """What a metrics file holds; nothing where there is none, or a torn one: it is about to be replaced."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
