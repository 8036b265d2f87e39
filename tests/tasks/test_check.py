"""task=check: each check can fail, and a failed check says what to do."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import composed
from forked_run import run
from quantised_model import GOLDEN
from safetensors.torch import load_file, save_file

from r2gen.config.schema import Config
from r2gen.lm import save_tokenizer, train_tokenizer
from r2gen.tasks.check.preflight import Preflight
from r2gen.tasks.check.results import FAIL, NOT_REACHED, PASS, CheckResult, run_checks

SMALL = [
    "lm=llama2",
    "data.train_studies=12",
    "data.val_studies=2",
    "data.test_studies=2",
    "data.size_px=32",
    "vision.image_size_px=32",
    "vision.model_args={channels: [32, 32, 32], stem_chs: 32}",
    "generation.max_new_tokens=6",
    "task=check",
]


def configuration(*overrides: str, folder: Path) -> Config:
    return composed(*SMALL, f"run_dir={folder}", *overrides)


def preflight(*overrides: str, folder: Path) -> Preflight:
    return Preflight(configuration(*overrides, folder=folder), torch.device("cpu"))


def results_of(checks: Preflight) -> dict[str, CheckResult]:
    return {result.name: result for result in run_checks(checks.checks(), lambda result: None)}


def result_of(preflight: Preflight, name: str) -> CheckResult:
    """The result of one check."""
    (result,) = run_checks([check for check in preflight.checks() if check.name == name], lambda result: None)
    return result


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the golden checkpoint for a test to damage."""
    return shutil.copytree(GOLDEN, tmp_path / "checkpoint")


def change(checkpoint: Path, **tensors: torch.Tensor | None) -> None:
    weights: dict[str, Any] = {**load_file(checkpoint / "model.safetensors"), **tensors}
    present = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(present, checkpoint / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("overrides", [[], ["quant=int8", "tune/lm=lora"], ["lm.dtype=bfloat16", "generation=beam3"]])
def test_an_undamaged_checkpoint_passes_every_check(tmp_path: Path, overrides: list[str]):
    results = results_of(preflight(f"lm.path={GOLDEN}", *overrides, folder=tmp_path))
    assert {result.status for result in results.values()} == {PASS}, results
    assert list(results) == [
        "weights",
        "tokenizer round trip",
        "vocabulary",
        "special ids",
        "prompt ids",
        "widths",
        "embedding identity",
        "forward",
        "decoding profile",
        "generation",
        "batch invariance",
        "gradients",
        "memory",
    ]
    assert "0 of 8 reports differ" in results["batch invariance"].message or "lm.dtype=bfloat16" in overrides


def test_after_a_missing_tensor_no_other_check_is_made(checkpoint: Path, tmp_path: Path):
    change(checkpoint, **{"model.layers.1.mlp.up_proj.weight": None})
    first, *others = results_of(preflight(f"lm.path={checkpoint}", folder=tmp_path)).values()
    assert (first.name, first.status) == ("weights", FAIL)
    assert "model.layers.1.mlp.up_proj.weight" in first.message
    assert {result.status for result in others} == {NOT_REACHED}


@pytest.mark.parametrize(
    ("value", "quant"), [(torch.nan, "none"), (torch.nan, "int8"), (torch.inf, "int8_weight_only")]
)
def test_a_weight_that_is_not_finite_is_named(checkpoint: Path, tmp_path: Path, value: float, quant: str):
    name = "model.layers.0.self_attn.q_proj.weight"
    weight = load_file(checkpoint / "model.safetensors")[name]
    weight[3, 5] = value
    change(checkpoint, **{name: weight})
    result = results_of(preflight(f"lm.path={checkpoint}", f"quant={quant}", folder=tmp_path))["weights"]
    assert (result.status, result.fix) == (FAIL, "the checkpoint is damaged: fetch lm.path again")
    assert name in result.message


def test_an_overflow_in_float16_is_reported_with_another_dtype(checkpoint: Path, tmp_path: Path):
    change(checkpoint, **{"model.norm.weight": torch.full((64,), 6e4)})
    results = results_of(preflight(f"lm.path={checkpoint}", "lm.dtype=float16", folder=tmp_path))
    assert results["weights"].status == PASS
    assert results["forward"].status == FAIL
    assert "lm.dtype=bfloat16" in results["forward"].fix
    assert results["gradients"].status == NOT_REACHED


def test_a_tokenizer_that_loses_letters_fails_the_round_trip(checkpoint: Path, tmp_path: Path):
    (checkpoint / "tokenizer.model").unlink()
    save_tokenizer(train_tokenizer(["the heart is normal in size."], 300), checkpoint)
    content = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "right lung"}, "content": "lung"}
    (checkpoint / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    results = results_of(preflight(f"lm.path={checkpoint}", folder=tmp_path))
    assert results["tokenizer round trip"].status == FAIL
    assert "comes back as" in results["tokenizer round trip"].message
    assert results["gradients"].status == PASS  # the others are tried all the same


def test_an_eos_token_within_reports_is_reported(checkpoint: Path, tmp_path: Path):
    results = results_of(preflight(f"lm.path={checkpoint}", "lm.stop=[' .']", folder=tmp_path))
    assert results["special ids"].status == FAIL
    assert "a report contains an EOS token" in results["special ids"].message


def test_a_report_that_depends_on_its_batch_fails(tmp_path: Path):
    checks = preflight(f"lm.path={GOLDEN}", folder=tmp_path)
    checks.weights()
    checks.widths()
    generate = checks.model.generate
    checks.model.generate = lambda batch, decoding: generate(  # type: ignore[method-assign]
        batch, replace(decoding, max_new_tokens=decoding.max_new_tokens - (len(batch.ids) > 1))
    )
    result = result_of(checks, "batch invariance")
    assert result.status == FAIL
    assert "8 of 8 reports differ" in result.message


def test_a_changed_frozen_weight_is_reported(tmp_path: Path):
    checks = preflight(f"lm.path={GOLDEN}", folder=tmp_path)
    checks.weights()
    checks.widths()
    frozen: Any = checks.lm.model.get_input_embeddings().weight

    def disturb(gradient: torch.Tensor) -> None:
        frozen.data.view(-1)[7] += 1e-3

    checks.model.projector.linear.weight.register_hook(disturb)  # type: ignore[attr-defined]
    result = result_of(checks, "gradients")
    assert result.status == FAIL
    assert "lm.model.model.embed_tokens.weight" in result.message


def test_the_command_prints_a_table_writes_a_file_and_exits_with_2(checkpoint: Path, tmp_path: Path):
    change(checkpoint, **{"lm_head.weight": None})
    (tmp_path / "check" / "tokenizer").mkdir(parents=True)  # what a check of another configuration left
    (tmp_path / "check" / "check.yaml").touch()
    done = run(*SMALL, f"lm.path={checkpoint}", "run_dir=check", cwd=tmp_path, smallest=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "FAIL         weights" in done.stdout
    assert done.stdout.count("not reached") == 12
    assert done.stderr.strip().endswith("the fixes are in the table")
    result = json.loads((tmp_path / "check" / "check.json").read_text(encoding="utf-8"))
    assert [row["status"] for row in result["rows"]] == [FAIL] + [NOT_REACHED] * 12
    assert not (tmp_path / "check" / "tokenizer").exists()
