"""ZeRO 3 gathers each layer of a language model as a whole, also a compiled one, and leaves a frozen encoder whole."""

from functools import partial

import pytest
import torch
from small_engine import largest_difference
from small_model import batch, report_generator

from r2gen.lm.compile import compile_layers
from r2gen.model.report_generator import ReportGenerator
from r2gen.train.engine import Engine, backward, is_sharded, keep_whole, start_engine, step, trainable_tensors
from r2gen.train.optim import adamw

pytestmark = pytest.mark.usefixtures("world")
SMALLEST = {"stage3_param_persistence_threshold": 0, "stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0}


def start(model: ReportGenerator, *, zero: int, **options: int) -> Engine:
    return start_engine(
        model,
        adamw(model, learning_rate=1e-3, betas=(0.9, 0.999), weight_decay=0.01),
        batch_size=4,
        micro_batch_size=4,
        gradient_clipping=1.0,
        bf16=False,
        options={"zero_optimization": {"stage": zero, **options}},
        whole=[model.vision.backbone] if model.vision.is_frozen else [],
    )


def saved_by(loss: torch.Tensor) -> list[torch.Tensor]:
    """What the compiled layers have saved for the backward pass."""
    nodes, seen, tensors = [loss.grad_fn], set(), list[torch.Tensor]()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
            tensors += getattr(node, "saved_tensors", ()) if type(node).__name__ == "CompiledFunctionBackward" else ()
    return tensors


def test_compiled_layers_train_as_before_and_keep_no_weight_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # which needs no C++ compiler
    trained = []
    for zero in (0, 3):
        model = report_generator(vision="frozen", lm="frozen", lively=True)
        engine = start(model, zero=zero, **(SMALLEST if zero == 3 else {}))
        if zero == 3:
            compile_layers(model.lm.model)
        engine.train()
        for _ in range(3):
            studies = batch(0, 1, 2, 3)
            loss = engine(studies)
            if zero == 3:
                weights = [weight for name, weight in model.named_parameters() if ".layers." in name]
                saved = {id(tensor) for tensor in saved_by(loss)}
                assert {weight.numel() for weight in weights} == {0}
                assert all(id(weight) in saved for weight in weights)
            backward(engine, loss, torch.tensor(float(studies.target_tokens)))
            step(engine)
        trained.append(trainable_tensors(engine))
        engine.destroy()
    assert largest_difference(*trained) < 1e-5


def test_a_frozen_encoder_is_not_divided():
    model = report_generator(vision="frozen", lm="lora")
    names = list(model.state_dict())
    engine = start(model, zero=3)
    encoder = list(model.vision.backbone.parameters())
    assert encoder
    assert not any(map(is_sharded, encoder))
    assert all(map(is_sharded, model.parameters()))
    engine.destroy()
    keep_whole(model)
    assert sorted(model.state_dict()) == sorted(names)
