"""config.yaml and run.json of a run that somebody edited: one message with the file, whatever was typed."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.runs.folder import RunFolder

GONE = object()
EDITS = [
    (("trainer",), None, "trainer"),
    (("data",), None, "data"),
    (("choices",), 3, "choices"),
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
    status, said = run_in_process("--cfg", "job", "--resolve", cwd=ROOT)
    assert status == 0, said
    found: dict[str, Any] = yaml.safe_load(said)
    return found | {"choices": {"lm": "tiny", "generation": "greedy", "experiment": None}}


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
    return {one: known for one, known in config.items() if one != key} | ({} if value is GONE else {key: value})


@pytest.mark.parametrize("typed", [[], ["trainer.devices=1"]])
@pytest.mark.parametrize(("name", "value", "words"), EDITS, ids=[f"{'.'.join(edit[0])}" for edit in EDITS])
def test_an_edited_configuration_is_one_message_with_its_file(
    stored: dict[str, Any], name: tuple[str, ...], value: object, words: str, typed: list[str], tmp_path: Path
):
    folder = a_run(tmp_path / "run", edited(stored, name, value))
    status, said = run_in_process("task=evaluate", f"run_dir={folder.path}", *typed, cwd=tmp_path)
    assert status == 2
    assert said.startswith(f"error: {folder.config_file}")
    assert words in said


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        (("trainer", "devices"), 3, ["trainer.devices=1"]),
        (("evaluate", "best"), "chexbert_f1", ["evaluate.best=bleu_4"]),
        (("metrics", "bleu", "gone"), 1, ["metrics=[bleu]", "evaluate.best=bleu_4"]),
        (("trainer", "nodes"), GONE, []),
    ],
)
def test_what_is_typed_replaces_what_could_not_stand_today(
    stored: dict[str, Any],
    name: tuple[str, ...],
    value: object,
    typed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = a_run(tmp_path / "run", edited(stored, name, value))
    monkeypatch.setattr("r2gen.tasks.dispatch.launch", lambda config, overrides: 0)
    assert run_in_process("task=evaluate", f"run_dir={folder.path}", *typed, cwd=tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [("identity", None), ("seconds", 3), ("overrides", 3), ("git", None), ("status", []), ("weights", "x")],
)
def test_an_edited_run_json_is_one_message_with_its_file(
    stored: dict[str, Any], key: str, value: object, tmp_path: Path
):
    folder = a_run(tmp_path / "run", stored)
    folder.run_file.write_text(json.dumps(folder.facts() | {key: value}), encoding="utf-8")
    status, said = run_in_process("task=evaluate", f"run_dir={folder.path}", cwd=tmp_path)
    assert (status, said) == (
        2,
        f"error: {folder.run_file} does not describe a run: {key}. Put back what the run wrote\n",
    )
