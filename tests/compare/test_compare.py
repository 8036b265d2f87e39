"""task=compare: the table, the files, and the errors."""

import csv
import io
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared import OPTIONS, compare
from composed import composed
from scored_run import TARGETS, references, write_run
from smallest_run import run

from r2gen.config.schema import CompareConfig
from r2gen.config.targets import Target
from r2gen.errors import UserError
from r2gen.evaluate.baselines import shuffled_reports
from r2gen.tasks import compare as compare_task


@pytest.fixture(scope="module")
def out(folder: Path, good: Path, poor: Path) -> Path:
    """The folder of the comparison of the good and the poor run."""
    compare(folder / "out", good, poor, metrics=tuple(TARGETS))
    return folder / "out"


@pytest.fixture(scope="module")
def comparison(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def test_two_runs_are_compared_with_intervals_tests_and_the_constant_baseline(comparison: dict[str, Any]):
    assert [system["name"] for system in comparison["systems"]] == ["good", "poor", "constant"]
    bleu = comparison["scores"]["good"]["bleu_4"]
    assert bleu["low"] < bleu["value"] < bleu["high"]
    pair = next(
        pair
        for pair in comparison["pairs"]
        if (pair["score"], pair["first"], pair["second"]) == ("rouge_l", "good", "poor")
    )
    assert pair["difference"]["high"] < 0
    assert not pair["within_noise"]
    assert comparison["findings"]["Pleural Effusion"]["good"]["f1"]["value"] > 0.5
    assert {stratum["name"] for stratum in comparison["strata"]} >= {"normal", "abnormal"}
    assert (
        sum(stratum["studies"] for stratum in comparison["strata"] if stratum["kind"] == "length")
        == comparison["studies"]
    )


def test_the_files_are_private_and_agree_with_each_other(out: Path, comparison: dict[str, Any]):
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text(encoding="utf-8"))))
    of_bleu = next(row for row in rows if (row["system"], row["score"], row["studies_of"]) == ("good", "bleu_4", "all"))
    assert float(of_bleu["value"]) == comparison["scores"]["good"]["bleu_4"]["value"]
    assert f"{comparison['scores']['poor']['rouge_l']['value']:.3f}" in (out / "table.md").read_text(encoding="utf-8")
    assert r"rouge\_l" in (out / "table.tex").read_text(encoding="utf-8")
    assert len(list(csv.DictReader((out / "pairs.csv").open(encoding="utf-8")))) == len(comparison["pairs"])


def test_equal_systems_are_reported_as_within_noise(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    twin = write_run(tmp_path / "twin", {id: json.loads(line)["report"] for id, line in _lines(good)}, projector="mlp")
    comparison = compare(tmp_path / "out", good, twin)
    assert all(
        pair["within_noise"] for pair in comparison["pairs"] if {pair["first"], pair["second"]} == {"good", "twin"}
    )
    printed = capsys.readouterr().out
    assert "twin against good\n  within noise: bleu_1, bleu_2, bleu_3, bleu_4, rouge_l" in printed
    assert "recipe: section findings" in printed


def _lines(run: Path) -> list[tuple[str, str]]:
    _, *lines = (run / "predictions/test.greedy.jsonl").read_text(encoding="utf-8").splitlines()
    return [(json.loads(line)["id"], line) for line in lines]


def test_the_studies_that_differ_most_come_first(comparison: dict[str, Any]):
    spreads = [study["spread"] for study in comparison["differing"]]
    assert len(spreads) == 3
    assert spreads == sorted(spreads, reverse=True)
    assert comparison["differing"][0]["reports"].keys() == {"good", "poor", "constant"}


def test_runs_that_differ_in_their_seed_have_a_mean_over_seeds(good: Path, tmp_path: Path):
    other = write_run(tmp_path / "good2", shuffled_reports(references(), seed=3), seed=1)
    comparison = compare(tmp_path / "out", good, other)
    (joined,) = comparison["joined"]
    assert joined["systems"] == ["good", "good2"]
    assert joined["seeds"] == [0, 1]
    values = [comparison["scores"][name]["bleu_4"]["value"] for name in ("good", "good2")]
    assert joined["scores"]["bleu_4"]["value"] == pytest.approx(sum(values) / 2)


def test_configurations_are_compared_over_their_common_seeds(tmp_path: Path):
    kinds = {"a": "linear", "b": "mlp"}
    runs = [
        write_run(
            tmp_path / f"{kind}{seed}",
            shuffled_reports(references(), seed=seed + 10 * (kind == "b")),
            seed=seed,
            projector=kinds[kind],
        )
        for kind in kinds
        for seed in (1, 2)
    ]
    comparison = compare(tmp_path / "out", *runs)
    pair = next(pair for pair in comparison["joined_pairs"] if pair["score"] == "rouge_l")
    value = {name: comparison["scores"][name]["rouge_l"]["value"] for name in ("a1", "a2", "b1", "b2")}
    assert (pair["first"], pair["second"], pair["seeds"]) == ("a", "b", [1, 2])
    assert pair["difference"]["value"] == pytest.approx((value["b1"] + value["b2"] - value["a1"] - value["a2"]) / 2)


def test_different_references_are_refused(good: Path, tmp_path: Path):
    of = references()
    other = {id: f"{text} more" for id, text in of.items()}
    run = write_run(tmp_path / "other", of, of=other)
    with pytest.raises(UserError, match=r"good and other have different references for \d+ of 24 studies, such as"):
        compare(tmp_path / "out", good, run, rescore=True)
    few = dict(list(of.items())[:20])
    run = write_run(tmp_path / "few", few, of=few)
    with pytest.raises(UserError, match=r"runs: good and few have different studies \(24 and 20; only good has"):
        compare(tmp_path / "out", good, run)


def test_a_cleaner_that_makes_references_equal_is_suggested_and_works(good: Path, tmp_path: Path):
    of = {id: text.upper() for id, text in references().items()}
    run = write_run(tmp_path / "loud", of, of=of)
    with pytest.raises(UserError, match=r"Set compare\.cleaner=iu_xray to clean all texts"):
        compare(tmp_path / "out", good, run)
    comparison = compare(tmp_path / "out", good, run, cleaner="iu_xray")
    assert comparison["scores"]["loud"]["bleu_4"]["value"] == pytest.approx(1)
    assert comparison["recipe"]["cleaner"] == "iu_xray"


def test_a_different_signature_is_refused_with_the_difference_or_scored_again(good: Path, tmp_path: Path):
    poor = write_run(tmp_path / "poor", shuffled_reports(references(), seed=2), projector="mlp")
    metrics = json.loads((poor / "metrics.json").read_text(encoding="utf-8"))
    metrics["signatures"]["bleu"]["version"] = "0.9"
    (poor / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"bleu: version 1\.2 \(good, constant\) / 0\.9 \(poor\)\)\. Set compare\.rescore=true"
    ):
        compare(tmp_path / "out", good, poor)
    assert compare(tmp_path / "out", good, poor, rescore=True)["signatures"]["bleu"]["version"] == "1.2"


def test_a_different_recipe_for_the_same_references_is_refused_with_the_difference(good: Path, tmp_path: Path):
    recipe = {"section": "findings", "cleaner": "none", "case": "kept", "truncation": "none", "data": "fedc"}
    run = write_run(tmp_path / "more_data", shuffled_reports(references(), seed=2), recipe=recipe)
    with pytest.raises(UserError, match=r"data 0123456789abcdef \(good\) / fedc \(more_data\).*compare.rescore=true"):
        compare(tmp_path / "out", good, run)
    assert compare(tmp_path / "out", good, run, rescore=True)["recipe"]["data"] == "0123456789abcdef / fedc"


def test_recorded_scores_of_other_reports_are_refused(good: Path, tmp_path: Path):
    poor = write_run(tmp_path / "poor", shuffled_reports(references(), seed=2))
    metrics = json.loads((poor / "metrics.json").read_text(encoding="utf-8"))
    metrics["splits"]["test"]["systems"]["model"]["bleu_4"] = 0.9
    (poor / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(UserError, match=r"poor: bleu_4 is 0\.9000 in metrics\.json, but .* for its predictions"):
        compare(tmp_path / "out", good, poor)


def test_reports_changed_after_scoring_are_refused_with_any_metric(good: Path, tmp_path: Path):
    poor = write_run(tmp_path / "poor", shuffled_reports(references(), seed=2))
    file = poor / "predictions" / "test.greedy.jsonl"
    head, *rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    lines = [head, *(row | {"report": row["reference"]} for row in rows)]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(UserError, match=r"poor: rouge_l is 0\.\d+ in metrics\.json, but 1\.0000 for its predictions"):
        compare(tmp_path / "out", good, poor, metrics=("rouge_l",))
    comparison = compare(tmp_path / "out", good, poor, metrics=("rouge_l",), rescore=True)
    assert comparison["scores"]["poor"]["rouge_l"]["value"] == pytest.approx(1)


def test_a_different_tokenizer_is_named_before_different_scores(good: Path, tmp_path: Path):
    poor = write_run(tmp_path / "poor", shuffled_reports(references(), seed=2), projector="mlp")
    metrics = json.loads((poor / "metrics.json").read_text(encoding="utf-8"))
    metrics["signatures"]["bleu"]["tokenizer"] = "ptb"
    metrics["splits"]["test"]["systems"]["model"]["bleu_4"] = 0.9
    (poor / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(UserError, match=r"bleu: tokenizer space \(good, constant\) / ptb \(poor\)"):
        compare(tmp_path / "out", good, poor)


def test_a_timeout_of_meteor_ends_meteor_and_not_the_comparison(good: Path, poor: Path, tmp_path: Path) -> None:
    config = replace(
        composed("task=compare"),
        runs=[str(good), str(poor)],
        out=str(tmp_path / "out"),
        compare=CompareConfig(**OPTIONS),
        metrics={
            "meteor": Target("r2gen.evaluate.meteor.Meteor", {"timeout_s": 0.05}),
            "bleu": Target(TARGETS["bleu"]),
        },
    )
    assert compare_task.compare(config, ["metrics=..."]) == 0
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert "bleu_4" in comparison["scores"]["good"]
    assert "meteor" not in comparison["scores"]["good"]
    (note,) = [note for note in comparison["notes"] if note.startswith("meteor: unavailable")]
    assert "did not answer within 0.05 s; a larger metrics.meteor.timeout_s waits longer" in note


def test_missing_and_unknown_ids_are_named(good: Path, tmp_path: Path):
    of = dict(list(references().items())[2:]) | {"stranger": "clear"}
    lines = [json.dumps({"id": id, "report": text}) for id, text in of.items()]
    (tmp_path / "wrong.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"wrong\.jsonl: 23 reports for 24 studies \(only good .*; only wrong has stranger\)"
    ):
        compare(tmp_path / "out", good, tmp_path / "wrong.jsonl")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], r"no runs are given\. Set runs=\[\.\.\.\]"),
        (["{good}", "{good}"], r"two entries have the name good\. Name them with 'runs=\[first=PATH,second=PATH\]'"),
        (["constant={good}"], "the name constant is reserved"),
        (["<b>={good}"], r"'<b>' cannot be the name of a system"),
        (["{good}", "x={good}/nothing.csv"], r"nothing\.csv: the file does not exist"),
    ],
)
def test_runs_that_cannot_be_used_are_refused(runs: list[str], message: str, good: Path, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        compare(tmp_path / "out", *(run.format(good=good) for run in runs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, r"compare\.split=val: no split has scores in all runs \(good has test\)"),
        (
            {"null_rows": ["best"]},
            r"null_rows=best: not a baseline\. Choose from constant, random, nearest, shuffled",
        ),
        ({"null_rows": ["nearest"]}, r"no run has the nearest images of these studies"),
        ({"differ_by": "bleu"}, r"compare\.differ_by=bleu: .*Choose from bleu_1"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str, good: Path, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        compare(tmp_path / "out", good, **options)


def test_the_requested_baselines_are_compared_as_systems(good: Path, tmp_path: Path):
    comparison = compare(tmp_path / "out", good, null_rows=["constant", "random", "shuffled"], studies=0)
    assert [system["name"] for system in comparison["systems"]] == ["good", "constant", "random", "good shuffled"]
    assert comparison["scores"]["good shuffled"]["rouge_l"]["value"] < comparison["scores"]["good"]["rouge_l"]["value"]


def test_an_existing_folder_is_made_private(good: Path, tmp_path: Path):
    (tmp_path / "out").mkdir(mode=0o755)
    compare(tmp_path / "out", good, studies=0, null_rows=[])
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_folder_with_other_files_is_refused(good: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"out=.* holds other files \(thesis\.tex, \.\.\.\)"):
        compare(tmp_path, good, studies=0, null_rows=[])


def test_the_command_accepts_names(good: Path, tmp_path: Path):
    overrides = ["task=compare", f"runs=[one={good},two={good}]", "metrics=[bleu]", "compare.null_rows=[]", "out=here"]
    done = run(*overrides, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "two against one\n  within noise: bleu_1" in done.stdout
    refused = run("compare.studies=0", cwd=tmp_path, smallest=False)
    assert refused.returncode == 2
    assert "compare.studies=0 is for task=compare" in refused.stderr


def test_a_comparison_in_which_no_score_has_an_interval(tmp_path: Path, good: Path, poor: Path) -> None:
    metrics = ("r2gen.evaluate.chexbert.CheXbert",)  # unavailable, since it has no weights
    comparison = compare(tmp_path, good, poor, metrics=metrics, rescore=True, studies=0)
    assert not any(comparison["scores"].values())
    assert "metrics.chexbert.path is null" in " ".join(comparison["notes"])
