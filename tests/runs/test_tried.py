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
from r2gen.lm import causal, load, weights
from r2gen.runs import tried
from r2gen.runs.folder import RunFolder
from r2gen.runs.job_file import read_job
from r2gen.runs.tried import code, installed, record_tried, was_tried

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
    record_tried(config, gpu=None)
    assert built(config) is True


def other_weights(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    file = Path(str(config.lm.path)) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rope_theta": 5.0}))
    return config


def other_packages(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(tried, "installed", lambda: ["transformers-6.0.dist-info"])
    return config


def other_code(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(tried, "code", lambda: [("r2gen/lm/causal.py", 1, 2)])
    return config


def other_quantisation(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    return replace(config, quant=composed("lm=llama2", "lm.path=a", "quant=fp8").quant)


def other_precision(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    return replace(config, trainer=replace(config.trainer, precision="bf16"))


@pytest.mark.parametrize("change", [other_weights, other_packages, other_code, other_quantisation, other_precision])
def test_a_model_is_tried_again_in_other_circumstances(
    config: Config, change: Callable[[Config, pytest.MonkeyPatch], Config], monkeypatch: pytest.MonkeyPatch
):
    record_tried(config, gpu=GPU)
    assert was_tried(config, gpu=GPU)
    assert not was_tried(config, gpu=None)
    assert not was_tried(change(config, monkeypatch), gpu=GPU)


def test_packages_and_code_are_listed_with_versions_and_times():
    assert any(name.startswith("transformers-") for name in installed())
    assert {"r2gen/lm/causal.py", "r2gen/lm/families/qwen.py"} <= {name for name, _, _ in code()}


def test_a_hub_id_a_folder_of_the_hubs_cache_and_random_weights_are_not_recorded(config: Config):
    lm = Path(str(config.lm.path))
    cache = lm.parent / "models--me--small"
    cache.mkdir()
    lm.rename(cache / "snapshot")
    in_cache = replace(config.lm, path=str(cache))
    for other in (composed("lm=llama2").lm, composed().lm, in_cache):
        record_tried(replace(config, lm=other), gpu=None)
        assert "lm_tried" not in RunFolder(config.folder).facts()


@pytest.mark.parametrize(
    "otherwise",
    [{"supports_tree": False}, {"available": True, "triton_works": False}],
    ids=["the model is on two GPUs", "Triton finds no compiler"],
)
def test_a_tree_is_tried_again_where_something_speaks_against_it(
    otherwise: dict[str, bool], config: Config, monkeypatch: pytest.MonkeyPatch
):
    record_tried(config, gpu=None)
    for name, value in otherwise.items():
        module = causal.tree_kernel if name == "available" else causal
        monkeypatch.setattr(module, name, lambda *_, value=value: value)
    assert built(config) is None


@pytest.mark.slow
def test_a_training_records_that_its_model_was_tried(tmp_path: Path):
    lm = write_llama(tmp_path / "lm")
    smallest = [override for override in SMALLEST if not override.startswith("lm.")]
    options = [f"lm.path={lm}", "trainer.max_steps=2", "evaluate.splits=[val]", "evaluate.nearest_studies=0"]
    done = run(*smallest, *OPTIONS, *options, "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "run"
    assert was_tried(read_job(folder / "config.yaml"), gpu=None)
    (folder / "predictions" / "val.greedy.jsonl").unlink()
    done = run("task=evaluate", "run_dir=run", "evaluate.splits=[val]", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert was_tried(read_job(folder / "evaluate.yaml"), gpu=None)
