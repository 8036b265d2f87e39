"""evaluate.drop: the same weights without an input, next to the model's own reports."""

import json
import shutil
from pathlib import Path

import pytest
from forked_run import run

from r2gen.evaluate.nlg import RougeL
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.split_scores import Scorer
from r2gen.evaluate.tables import drop_lines

STORY = (
    "data=phantom_story",
    "data.test_studies=24",
    "metrics=[bleu]",
    "evaluate.nearest_studies=0",
    "evaluate.splits=[test]",
    "trainer.max_steps=3",
)


def test_an_input_gives_the_difference_to_the_same_weights_without_it() -> None:
    words = [f"word{number}" for number in range(12)]
    own = {f"study {number}": " ".join(words[number % 4 :][:6]) for number in range(40)}
    without = {id: text.replace("word2", "other") for id, text in own.items()}
    predictions = [Prediction(id, text, text, 4, "stop", 0.1) for id, text in own.items()]
    scorer = Scorer(metrics={"rouge_l": RougeL()}, best={})
    scored = scorer.score(predictions, {"no_prior": without, "no_age": own})
    entry = scorer.entry(scored, statistics=True, drops=["no_prior", "no_age"])
    entry["drops"] = {
        "no_prior": {"changed": 30},
        "no_age": {"changed": 40},
        "no_sex": {"changed": 0},
        "other_age": {"changed": 0},
    }
    margin = entry["drop_margins"]["no_prior"]["rouge_l"]
    assert margin["value"] == pytest.approx(1 - entry["systems"]["no_prior"]["rouge_l"])
    assert 0 < margin["low"] < margin["value"] < margin["high"]
    prior, age, sex, other = drop_lines(entry, scorer.specs())
    assert prior.startswith("model minus no_prior (30 of 40 studies changed): rouge_l +0.")
    assert age == "model minus no_age (40 of 40 studies changed): no score differs beyond noise"
    assert sex == "no_sex: not scored, no study has this input"
    assert other == "other_age: not scored, no two studies differ in this input"
    assert drop_lines({"studies": 40}, scorer.specs()) == []


def texts_in(file: Path) -> list[tuple[str, str]]:
    return [(line["id"], line["report"]) for line in map(json.loads, file.read_text().splitlines()[1:])]


@pytest.mark.slow
def test_reports_without_an_input_are_scored_next_to_the_model_on_one_rank_or_two(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained = run(*STORY, "context=indication_prior", f"run_dir={folder}", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    before = json.loads((folder / "metrics.json").read_text())["splits"]["test"]
    assert "drops" not in before

    words = ("task=evaluate", f"run_dir={folder}", "evaluate.drop=[prior,other_prior,lateral]")
    done = run(*words, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    test = json.loads((folder / "metrics.json").read_text())["splits"]["test"]
    assert test["systems"]["model"] == before["systems"]["model"]
    assert set(test["drops"]) == set(test["drop_margins"]) == {"no_prior", "other_prior", "no_lateral"}
    assert {"no_prior", "other_prior", "no_lateral"} <= set(test["systems"])
    assert "model minus no_prior (" in done.stdout.replace("\n", " ")
    for system in test["drops"]:
        file = folder / "predictions" / system / "test.greedy.jsonl"
        head, *lines = map(json.loads, file.read_text().splitlines())
        assert head["header"]["drop"] == system.removeprefix("no_")
        assert len(lines) == 24

    written = file.stat().st_mtime_ns
    assert run(*words, cwd=tmp_path, smallest=False).returncode == 0
    assert file.stat().st_mtime_ns == written

    texts = {file: texts_in(file) for file in (folder / "predictions").rglob("test.greedy.jsonl")}
    assert len(texts) == 4  # the model's own reports too
    shutil.rmtree(folder / "predictions")
    ranks = run(*words, "trainer.devices=2", "trainer.device=cpu", cwd=tmp_path, smallest=False)
    assert ranks.returncode == 0, ranks.stderr
    assert {file: texts_in(file) for file in (folder / "predictions").rglob("test.greedy.jsonl")} == texts
    on_two = json.loads((folder / "metrics.json").read_text())["splits"]["test"]
    assert {key: on_two[key] for key in ("systems", "drops", "drop_margins")} == {
        key: test[key] for key in ("systems", "drops", "drop_margins")
    }

    refused = run(f"run_dir={folder}", "task=evaluate", "evaluate.drop=[technique]", cwd=tmp_path, smallest=False)
    assert refused.returncode == 2
    assert "evaluate.drop=technique: this model does not read it" in refused.stderr
