"""A language model that was tried in the same circumstances is not tried again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from composed import composed
from forked_run import run
from quantised_model import write_llama
from smallest_run import SMALLEST

from r2gen.build import build_lm
from r2gen.config.schema import Config
from r2gen.lm import load, weights
from r2gen.runs import tried
from r2gen.runs.folder import RunFolder
from r2gen.runs.tried import record_tried, tried_before

OPTIONS = ("lm=llama2", "trainer.precision=fp32")
GPU = "NVIDIA H100"


class TriedError(Exception):
    """The language model is tried."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.record(git={}, status="running", overrides=[])
    lm = write_llama(tmp_path / "lm")
    return replace(composed(*OPTIONS, f"lm.path={lm}"), run_dir=str(folder.path))


def built(config: Config) -> bool | None:
    return build_lm(config, tokenizer=None, bf16=False, device=torch.device("cpu")).tree


def test_a_model_is_tried_once(config: Config, monkeypatch: pytest.MonkeyPatch):
    assert built(config) is True

    def refuse(*_: object) -> None:
        raise TriedError

    for check in ("check_forward", "check_embeddings", "tokenizer_tried"):
        monkeypatch.setattr(load, check, refuse)
    monkeypatch.setattr(weights, "_check_size", refuse)
    with pytest.raises(TriedError):
        built(config)
    for tree in (True, False):
        record_tried(config, gpu=None, tree=tree)
        assert built(config) is tree


def other_weights(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    file = Path(str(config.lm.path)) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rope_theta": 5.0}))
    return config


def other_packages(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(tried, "versions", lambda: {"transformers": "6.0"})
    return config


def other_quantisation(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    return replace(config, quant=composed("lm=llama2", "lm.path=a", "quant=fp8").quant)


def other_precision(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    return replace(config, trainer=replace(config.trainer, precision="bf16"))


@pytest.mark.parametrize("change", [other_weights, other_packages, other_quantisation, other_precision])
def test_a_model_is_tried_again_in_other_circumstances(
    config: Config, change: Callable[[Config, pytest.MonkeyPatch], Config], monkeypatch: pytest.MonkeyPatch
):
    record_tried(config, gpu=GPU, tree=True)
    assert tried_before(config, gpu=GPU) is True
    assert tried_before(config, gpu=None) is None
    assert tried_before(change(config, monkeypatch), gpu=GPU) is None


def test_a_hub_id_and_random_weights_are_not_recorded(config: Config):
    for other in (composed("lm=llama2"), composed()):
        record_tried(replace(other, run_dir=config.run_dir), gpu=None, tree=True)
        assert "lm_tried" not in RunFolder(config.folder).facts()


@pytest.mark.slow
def test_a_training_records_that_its_model_was_tried(tmp_path: Path):
    lm = write_llama(tmp_path / "lm")
    smallest = [override for override in SMALLEST if not override.startswith("lm.")]
    options = [f"lm.path={lm}", "trainer.max_steps=2", "evaluate.splits=[val]", "evaluate.nearest_studies=0"]
    done = run(*smallest, *OPTIONS, *options, "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(tmp_path / "run")
    recorded = folder.facts()["lm_tried"]
    predictions = folder.path / "predictions" / "val.greedy.jsonl"
    assert (recorded["tree"], decoder_of(predictions)) == (True, "tree")
    predictions.unlink()
    folder.record(lm_tried={**recorded, "tree": False})
    done = run("task=evaluate", "run_dir=run", "evaluate.splits=[val]", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert decoder_of(predictions) == "transformers"


def decoder_of(predictions: Path) -> str:
    first: dict[str, dict[str, str]] = json.loads(predictions.read_text(encoding="utf-8").splitlines()[0])
    return first["decoded"]["decoder"]
