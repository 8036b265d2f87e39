"""The scores of a run are read in one place, also those that earlier versions wrote."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from r2gen.errors import UserError
from r2gen.runs.metrics_file import metrics_path, read_metrics

BEFORE = next((Path(__file__).parents[1] / "golden/run_of_the_version_before").glob("train-*"))


def test_a_run_scored_before_has_its_scores_named_by_the_metrics_of_its_configuration(tmp_path: Path) -> None:
    for name in ("metrics.json", "config.yaml"):
        shutil.copy(BEFORE / name, tmp_path)
    assert "score_specs" not in json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    record = read_metrics(metrics_path(tmp_path))
    titles = {spec["name"]: spec["title"] for spec in record["score_specs"]}
    assert titles.items() >= {"bleu_4": "BLEU-4", "cider": "CIDEr"}.items()
    assert titles.keys() >= record["splits"]["test"]["systems"]["model"].keys()


def test_scores_of_a_metric_that_no_longer_exists_are_read_without_its_titles(tmp_path: Path) -> None:
    shutil.copy(BEFORE / "metrics.json", tmp_path)
    gone = {
        "metrics": {"gone": {"_target_": "r2gen.evaluate.gone.Gone"}, "cider": {"_target_": "r2gen.evaluate.nlg.Cider"}}
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(gone), encoding="utf-8")
    assert [spec["name"] for spec in read_metrics(metrics_path(tmp_path))["score_specs"]] == ["cider"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"splits": {"val": {"systems": {}}}}', '{"splits": {"val": {"studies": 1}}}']
)
def test_a_broken_file_is_named_with_the_command_that_writes_it_again(tmp_path: Path, text: str) -> None:
    assert read_metrics(metrics_path(tmp_path)) == {}
    metrics_path(tmp_path).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"metrics\.json: does not contain the scores .* run_dir={tmp_path}"):
        read_metrics(metrics_path(tmp_path))
