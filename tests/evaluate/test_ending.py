"""The end of a run on the terminal: verdict, scores, a report next to its reference, what to type next."""

import json
from pathlib import Path

import pytest
from fake_run import finished_run

from r2gen.errors import UserError
from r2gen.evaluate.ending import ending, side_by_side


def shown(run: Path, *, verbose: bool = False) -> str:
    return ending(run, run / "metrics.json", verbose=verbose)


def test_it_begins_with_the_verdict_and_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = finished_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    verdict, table, cut, example, next_steps = shown(run).split("\n\n")
    assert verdict.startswith("The model uses the images")
    assert table.split("\n")[0] == "test: 590 studies, decoding greedy"
    assert table.split("\n")[1].split() == ["model", "constant", "shuffled"]
    assert "bleu_4" in table
    assert "train: skipped, not requested" in table
    assert cut.startswith("against references cut to 60 tokens")
    assert "(median bleu_4)" in example
    assert example.split("\n")[1].split() == ["generated", "reference"]
    assert next_steps.startswith("page: run/report.html\n")
    assert max(len(line) for line in shown(run).split("\n")) <= 80


def test_intervals_signatures_and_validation_need_verbose(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    for text in ("model, 95 %", "recipe: ", "val: 295 studies"):
        assert text not in shown(run)
        assert text in shown(run, verbose=True)


def test_scores_are_shown_without_predictions_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    (run / "predictions" / "test.greedy.jsonl").write_text("{}\n")
    assert "reference" not in shown(run).split("next:")[0].replace("references cut", "")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["splits"]["test"]["studies"] = None
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="does not contain the scores"):
        shown(run)


def test_two_texts_are_wrapped_between_words() -> None:
    assert side_by_side("the heart is enlarged .", "no effusion .", width=30) == (
        "generated       reference\nthe heart is    no effusion .\nenlarged ."
    )
    assert max(map(len, side_by_side("\x1f" * 40, "no effusion .", width=30).split("\n"))) <= 30
