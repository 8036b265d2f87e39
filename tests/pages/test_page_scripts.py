"""The script of each page runs, shows what the page is about, and its controls work (with node, without a browser)."""

import json
from pathlib import Path

import pytest
from fake_run import finished_run, started_run, with_training
from fake_sweep import make
from shown_page import shown_text

from r2gen.pages.run import write_page


def with_findings(run: Path) -> Path:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    finding = {"support": 3, "stated": 2, "precision": 0.5, "recall": None, "f1": 0.4}
    for split in metrics["splits"].values():
        split["details"] = {"model": {"findings": {"Edema": finding}, "chexbert": {"Edema": finding}}}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return run


def test_the_page_of_a_finished_run(tmp_path: Path) -> None:
    text = shown_text(write_page(with_findings(finished_run(tmp_path / "run")), images={}))
    assert "The run is complete." in text
    assert "baseline: one training report for all studies" in text
    assert "Each finding (chexbert)" in text
    assert "The model uses the images: 3 of 6 scores are better" in text


def test_what_inputs_give_and_the_scores_of_groups_are_on_the_page(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["splits"]["test"]
    test["systems"]["no_prior"] = test["systems"]["constant"]
    test["drops"] = {"no_prior": {"changed": 400}, "other_lateral": {"changed": 0}}
    tiny = {"value": -0.0002, "low": -0.0004, "high": 0.0001, "p": 0.01, "within_noise": False}
    test["drop_margins"] = {"no_prior": test["margins"] | {"rouge_l": tiny}}
    test["subgroups"] = {"sex": {"female": {"studies": 310, "scores": test["intervals"]["model"]}}}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    text = shown_text(write_page(run, images={}))
    assert "Test: what each input gives" in text
    assert "Prior study withheld" in text
    assert "400 of 590 studies changed" in text
    assert "Lateral image of another patient" in text
    assert "no study has it" in text
    assert "sex, 310 studies" in text
    assert "no_prior" not in text
    assert "± 0.000" in text
    assert ".000 to .000" in text
    assert "−.000" not in text
    assert "−0.000" not in text


def test_the_scores_of_each_data_set_of_a_mix_are_on_the_page(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["splits"]["test"]
    test["systems"]["no_prior"], test["drops"] = test["systems"]["constant"], {"no_prior": {"changed": 400}}
    of_set = {name: test[name] for name in ("systems", "intervals", "margins", "shuffled_margins")}
    test["sets"] = {"padchest": {"studies": 77, **of_set}}
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    text = shown_text(write_page(run, images={}))
    assert "data set padchest, 77 studies" in text
    assert text.count("The model uses the images") > 1, "a verdict for each set"
    assert "no_prior" not in text, "withheld inputs have a table of their own"


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_the_page_of_a_run_without_scores(tmp_path: Path, status: str) -> None:
    run = started_run(tmp_path / "run", status=status, reason="out of memory")
    text = shown_text(write_page(run, images={}))
    assert ("No scores yet" in text) == (status == "running")  # what has ended shows no part that stays empty
    assert ("No generated reports yet" in text) == (status == "running")
    assert "Computed during training" in shown_text(write_page(with_training(run)))


def test_the_page_of_a_sweep(tmp_path: Path) -> None:
    text = shown_text(make(tmp_path / "sweep", 8))
    assert "Pareto front, cheapest first" in text
    assert "One study in every run" in text
