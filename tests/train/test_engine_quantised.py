"""Quantised language models under a real DeepSpeed: every stage trains alike, and frozen bytes stay."""

from pathlib import Path

import pytest
import torch
from quantised_model import MODES, generator, write_llama
from small_model import batch

from r2gen.lm.quantize import stored_tensors
from r2gen.model.report_generator import ReportGenerator
from r2gen.train.engine import backward, start_engine, step, trainable_tensors
from r2gen.train.optim import adamw

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def trained(model: ReportGenerator, *, zero: int, bf16: bool = False) -> dict[str, torch.Tensor]:
    optimizer = adamw(model, learning_rate=1e-2, betas=(0.9, 0.99), weight_decay=0.0)
    engine = start_engine(
        model,
        optimizer,
        batch_size=4,
        micro_batch_size=4,
        gradient_clipping=0.0,
        bf16=bf16,
        options={"zero_optimization": {"stage": zero}},
    )
    engine.train()
    for _ in range(2):
        whole = batch(0, 1, 2, 3)
        backward(engine, engine(whole), torch.tensor(float(whole.target_tokens)))
        step(engine)
    tensors = trainable_tensors(engine)
    engine.destroy()
    return tensors


def frozen(model: ReportGenerator) -> list[tuple[str, torch.Tensor]]:
    free = {name for name, parameter in model.lm.model.named_parameters() if parameter.requires_grad}
    return [(name, part.clone()) for name, part in stored_tensors(model.lm.model) if name not in free]


@pytest.mark.parametrize("mode", MODES)
def test_every_zero_stage_trains_alike_and_leaves_frozen_bytes_alone(folder: Path, mode: str):
    found = []
    for zero in (0, 1, 2):
        model = generator(folder, mode, lm="lora")
        before = frozen(model)
        found.append(trained(model, zero=zero))
        pairs = zip(before, frozen(model), strict=True)
        assert all(name == same and torch.equal(one, other) for (name, one), (same, other) in pairs)
    for other in found[1:]:
        assert max((found[0][name] - other[name]).abs().max().item() for name in other) < 1e-5
    begun = dict(generator(folder, mode, lm="lora").named_parameters())
    assert all(not torch.equal(found[0][name], begun[name]) for name in found[0] if "lora_" in name)
