"""An edited config.yaml or run.json of a run is refused with one message that names the file."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_in_process import run_in_process
from smallest_run import ROOT
from tiers import fast_only

from r2gen.runs.folder import RunFolder

GONE = object()
EDITS = [
    (("trainer",), None, "trainer"),
    (("data",), None, "data"),
    (("choices",), 3, "choices"),
    (("choices",), {}, "has no choices.lm"),
    (("choices",), {"lm": [1]}, "choices.lm"),
    (("generation",), [], "generation"),
    (("lm",), GONE, "lm"),
    (("evaluate",), "x", "evaluate"),
    (("trainer", "batch_size"), 0, "trainer.batch_size=0 must be more than 0"),
    (("trainer", "workers"), "many", "trainer.workers=many: give a whole number"),
    (("vision", "_target_"), GONE, "vision has no _target_"),
    (("data", "_target_"), 3, "data: _target_=3"),
    (("projector", "_target_"), "os.system", "projector"),
    (("seed",), None, "seed=null"),
]


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    status, output = run_in_process("--cfg", "job", "--resolve", cwd=ROOT)
    assert status == 0, output
    configuration: dict[str, Any] = yaml.safe_load(output)
    return configuration | {"choices": {"lm": "tiny", "generation": "greedy", "experiment": None}}


def a_run(path: Path, config: dict[str, Any]) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    folder.config_file.write_text(yaml.safe_dump(config), encoding="utf-8")
    folder.record(git={"revision": "0"}, status="finished", overrides=[], identity="0", seconds={})
    return folder


def edited(config: dict[str, Any], name: tuple[str, ...], value: object) -> dict[str, Any]:
    *groups, key = name
    if groups:
        return config | {groups[0]: edited(config[groups[0]], (*groups[1:], key), value)}
    return {other: stored for other, stored in config.items() if other != key} | ({} if value is GONE else {key: value})


@pytest.mark.parametrize("overrides", fast_only([[], ["trainer.devices=1"]], []))
@pytest.mark.parametrize(("name", "value", "words"), EDITS, ids=[f"{'.'.join(edit[0])}" for edit in EDITS])
def test_an_edited_configuration_is_refused_with_its_file(
    stored: dict[str, Any], name: tuple[str, ...], value: object, words: str, overrides: list[str], tmp_path: Path
):
    folder = a_run(tmp_path / "run", edited(stored, name, value))
    status, output = run_in_process("task=evaluate", f"run_dir={folder.path}", *overrides, cwd=tmp_path)
    assert status == 2
    assert output.startswith(f"error: {folder.config_file}")
    assert words in output


@pytest.mark.parametrize(
    ("name", "value", "overrides"),
    [
        (("trainer", "devices"), 3, ["trainer.devices=1"]),
        (("evaluate", "best"), "chexbert_f1", ["evaluate.best=bleu_4"]),
        (("metrics", "bleu", "gone"), 1, ["metrics=[bleu]", "evaluate.best=bleu_4"]),
        (("trainer", "nodes"), GONE, []),
    ],
)
def test_an_override_replaces_a_stored_value_that_is_no_longer_valid(
    stored: dict[str, Any],
    name: tuple[str, ...],
    value: object,
    overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = a_run(tmp_path / "run", edited(stored, name, value))
    monkeypatch.setattr("r2gen.tasks.dispatch.launch", lambda config, overrides: 0)
    assert run_in_process("task=evaluate", f"run_dir={folder.path}", *overrides, cwd=tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [("identity", None), ("seconds", 3), ("overrides", 3), ("git", None), ("status", []), ("weights", "x")],
)
def test_an_edited_run_json_is_refused_with_its_file(stored: dict[str, Any], key: str, value: object, tmp_path: Path):
    folder = a_run(tmp_path / "run", stored)
    folder.run_file.write_text(json.dumps(folder.facts() | {key: value}), encoding="utf-8")
    status, output = run_in_process("task=evaluate", f"run_dir={folder.path}", cwd=tmp_path)
    assert (status, output) == (
        2,
        f"error: {folder.run_file} does not describe a run: {key}. Put back what the run wrote\n",
    )
