"""An evaluation prepares its baselines while the model writes, with the same scores and no process left behind."""

import json
import signal
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest
import scoring
import torch
from scoring import SteadyModel, Texts, drawn_reports, evaluation_of, sentences_of

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.evaluate.baselines import BASELINE_SEED, shuffled_reports
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.generate import predict
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.scores import Metric
from r2gen.ranks.stop import Stopped

COUNTS = {"train": 12, "val": 5, "test": 9}
SENTENCES = sentences_of(None)
REPORTS = {split: drawn_reports(SENTENCES, count, name=split) for split, count in COUNTS.items()}
MODEL = {
    id: text
    for split in ("val", "test")
    for id, text in zip(
        REPORTS[split], drawn_reports(SENTENCES, COUNTS[split], name=f"model {split}").values(), strict=True
    )
}


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Those of pytest again, since an evaluation's StopRequest sets its own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def metrics() -> dict[str, Metric]:
    return {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider(), "findings": Findings()}


def steady_model() -> SteadyModel:
    return SteadyModel(MODEL, rate=1e6, note=lambda part: None)


def test_each_report_is_passed_on_once_when_it_is_written(tmp_path: Path) -> None:
    passed: list[Prediction] = []
    evaluation = evaluation_of(tmp_path, Texts(REPORTS), metrics())
    predictions = predict(
        steady_model(),
        evaluation.predictor.datasets["test"],
        Decoding(max_new_tokens=1),
        batch_size=4,
        workers=0,
        device=torch.device("cpu"),
        finished=passed.extend,
    )
    assert passed == predictions
    assert [prediction.report for prediction in passed] == [MODEL[id] for id in REPORTS["test"]]


def test_early_scores_are_those_of_scoring_everything_at_the_end(tmp_path: Path) -> None:
    evaluation = evaluation_of(tmp_path, Texts(REPORTS), metrics())
    evaluation.evaluate(steady_model(), ["val", "test"], checkpoint="0")
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert list(written["splits"]["test"]["systems"]) == ["model", "constant", "random", "nearest", "shuffled"]
    baselines = evaluation.baselines
    nearest = json.loads((tmp_path / "nearest.json").read_text())["nearest"]
    for split in ("val", "test"):
        ids = list(REPORTS[split])
        reports = baselines.reports(ids, constant=written["constant_report"], nearest=nearest)
        given = {id: MODEL[id] for id in ids}
        reports["shuffled"] = shuffled_reports(given, seed=BASELINE_SEED)
        predictions = [Prediction(id, MODEL[id], REPORTS[split][id], 1, "stop", 0.0) for id in ids]
        entry = evaluation.scorer.entry(evaluation.scorer.score(predictions, reports), statistics=True)
        of_split = json.loads(json.dumps(entry))
        assert written["per_report"][split] == of_split.pop("per_report")
        assert {key: written["splits"][split][key] for key in of_split} == of_split


def test_no_process_is_left_behind_after_a_stop(tmp_path: Path) -> None:
    class Stops(SteadyModel):
        def keeps(self, text: str) -> bool:
            raise Stopped

    evaluation = evaluation_of(tmp_path, Texts(REPORTS), metrics())
    with pytest.raises(Stopped):
        evaluation.evaluate(Stops(MODEL, rate=1e6, note=lambda part: None), ["val"], checkpoint="0")
    assert active_children() == []


def test_a_training_image_that_cannot_be_read_is_named_with_the_option(tmp_path: Path) -> None:
    class Broken(Texts):
        def image(self, view: str, *, at_least_px: int | None = None):  # type: ignore[no-untyped-def]
            raise UserError(f"image {view} does not exist")

    evaluation = evaluation_of(tmp_path, Broken(REPORTS), metrics())
    with pytest.raises(UserError, match=r'image train-.* \(the baseline "nearest" .*evaluate\.nearest_studies=0'):
        evaluation.evaluate(steady_model(), ["val"], checkpoint="0")


def test_the_benchmark_prints_each_part(capsys: pytest.CaptureFixture[str]) -> None:
    scoring.main(8, 10, 1e6, None, metrics())
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("before the first report", "after the last report", "  findings"))
