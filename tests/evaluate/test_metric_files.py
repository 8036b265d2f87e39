"""A metric's weights that were typed are there before anything starts."""

from pathlib import Path

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.metric_files import check_metric_files


def test_paths_become_absolute_and_null_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chexbert.pth").touch()
    monkeypatch.chdir(tmp_path)
    metrics = {"chexbert": {"path": "chexbert.pth", "bert": None}, "bleu": {"tokenizer": "space"}}
    checked = check_metric_files(metrics)
    assert checked["chexbert"] == {"path": str(tmp_path / "chexbert.pth"), "bert": None}
    assert checked["bleu"] == metrics["bleu"]


@pytest.mark.parametrize("key", ["path", "bert"])
def test_a_path_that_is_not_there_is_refused_by_its_option(key: str) -> None:
    with pytest.raises(UserError, match=rf"metrics\.chexbert\.{key}=/nowhere/x does not exist"):
        check_metric_files({"chexbert": {key: "/nowhere/x"}})
