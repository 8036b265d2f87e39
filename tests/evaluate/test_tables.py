"""Columns of a table have a fixed order, and the table of a run has a part for each split."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.chexbert import CheXbert
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.meteor import Meteor
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.other_packages import SacreBleu
from r2gen.evaluate.tables import interval_lines, table_of, terminal_table

SPECS = [spec for kind in (Bleu, RougeL, Meteor, Cider, Findings, CheXbert, SacreBleu) for spec in kind.scores]


def test_columns_have_a_fixed_order_and_a_missing_score_is_a_dash() -> None:
    systems = {"model": {"cider": 0.41234, "own": 1.0, "bleu_4": 0.1}, "constant": {"meteor": 0.2, "bleu_4": 0.0996}}
    assert terminal_table(systems, SPECS) == (
        "          bleu_4  meteor  cider    own\n"
        "model      0.100       -  0.412  1.000\n"
        "constant   0.100   0.200      -      -"
    )


def test_the_table_of_a_run_has_a_part_for_each_split_and_names_skipped_splits(tmp_path: Path) -> None:
    assert "no scores yet" in table_of(tmp_path / "metrics.json")
    metrics = {
        "generation": "greedy",
        "splits": {
            "val": {
                "studies": 1,
                "systems": {"model": {"bleu_4": 0.5}, "constant": {"bleu_4": 0.25}},
                "nearest": {"compared": 20, "train": 3000},
            }
        },
        "skipped": {"test": "the split is empty"},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert table_of(tmp_path / "metrics.json") == (
        "val: 1 study, decoding greedy\n"
        "          bleu_4\n"
        "model      0.500\n"
        "constant   0.250\n"
        "nearest: among 20 of 3,000 training studies (evaluate.nearest_studies)\n"
        "\n"
        "test: skipped, the split is empty"
    )
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="does not contain the scores"):
        table_of(tmp_path / "metrics.json")


def test_precision_and_recall_of_single_findings_have_no_column() -> None:
    names = ["findings_precision_micro_14", "findings_recall_macro_5", "findings_f1_macro_5", "findings_precision"]
    assert terminal_table({"model": dict.fromkeys(names, 0.5)}, SPECS).split("\n")[0].split() == [names[2], names[3]]


def test_intervals_are_below_the_table_with_a_note_how_they_were_computed(tmp_path: Path) -> None:
    ends = {"value": 0.5, "low": 0.41234, "high": 0.61, "draws": 10_000}
    intervals = {
        "model": {"bleu_4": ends, "cider": ends, "meteor": ends, "rouge_l": ends | {"low": None, "high": None}}
    }
    split = {"studies": 9, "systems": {"model": {"bleu_4": 0.5, "own": 0.5}}, "intervals": intervals}
    specs = [asdict(spec) for spec in SPECS]
    metrics = {"generation": "greedy", "splits": {"val": split}, "score_specs": specs}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    lines = table_of(tmp_path / "metrics.json").split("\n")[3:]
    assert max(map(len, lines)) <= 118
    assert " ".join(" ".join(lines).split()) == (
        "model, 95 %: bleu_4 0.412 to 0.610, meteor 0.412 to 0.610, cider 0.412 to 0.610"
        " 95 %: 10,000 resamples of the studies; CIDEr's document frequencies stay those of all references"
        " no interval: own; such a score is not computed from sums over studies, so studies cannot be resampled"
    )


def test_columns_that_do_not_fit_go_into_another_table_below() -> None:
    names = [f"findings_figure_abc_{number:02}" for number in range(8)]
    lines = terminal_table({"model": dict.fromkeys(names, 0.5), "constant": {}}, SPECS).split("\n")
    assert [" ".join(line.split()) for line in lines if "findings" in line] == [
        " ".join(names[:4]),
        " ".join(names[4:]),
    ]
    assert max(map(len, lines)) <= 118
    assert lines.count("") == 1


def test_only_scores_with_a_column_have_their_interval_below_the_table() -> None:
    ends = {"value": 0.2, "low": 0.1, "high": 0.3, "draws": 10}
    lines = interval_lines(
        {
            "systems": {"model": {"chexbert_recall_micro_14": 0.2}},
            "intervals": {"model": {"sacrebleu": ends, "chexbert_recall_micro_14": ends, "bleu_4": ends}},
        },
        SPECS,
    )
    assert lines.splitlines()[1] == "model, 95 %: bleu_4 0.100 to 0.300, sacrebleu 0.100 to 0.300"
