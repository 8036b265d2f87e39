"""Quantised language models train alike with every ZeRO stage, and their frozen bytes do not change."""

from pathlib import Path

import pytest
import torch
from quantised_model import MODES, generator, write_llama
from small_engine import largest_difference, start_small_engine
from small_model import batch

from r2gen.lm.quantize import stored_tensors
from r2gen.model.report_generator import ReportGenerator
from r2gen.train.engine import backward, step, trainable_tensors

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def trained(model: ReportGenerator, *, zero: int) -> dict[str, torch.Tensor]:
    engine = start_small_engine(model, batch_size=4, micro_batch_size=4, zero=zero, learning_rate=1e-2)
    engine.train()
    for _ in range(2):
        studies = batch(0, 1, 2, 3)
        backward(engine, engine(studies), torch.tensor(float(studies.target_tokens)))
        step(engine)
    tensors = trainable_tensors(engine)
    engine.destroy()
    return tensors


def frozen(model: ReportGenerator) -> list[tuple[str, torch.Tensor]]:
    trainable = {name for name, parameter in model.lm.model.named_parameters() if parameter.requires_grad}
    return [(name, tensor.clone()) for name, tensor in stored_tensors(model.lm.model) if name not in trainable]


@pytest.mark.parametrize("mode", MODES)
def test_every_zero_stage_trains_alike_and_changes_no_frozen_byte(folder: Path, mode: str):
    weights = []
    for zero in (0, 1, 2):
        model = generator(folder, mode, lm="lora")
        before = frozen(model)
        weights.append(trained(model, zero=zero))
        pairs = zip(before, frozen(model), strict=True)
        assert all(name == same and torch.equal(tensor, after) for (name, tensor), (same, after) in pairs)
    assert all(largest_difference(weights[0], other) < 1e-5 for other in weights[1:])
    initial = dict(generator(folder, mode, lm="lora").named_parameters())
    assert all(not torch.equal(weights[0][name], initial[name]) for name in weights[0] if "lora_" in name)
