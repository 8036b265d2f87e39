"""With ZeRO 3 the layers of a frozen language model are gathered before they are used, and a frozen encoder is whole.

test_ranks.py compares two ranks with one; here one rank gathers from itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from small_engine import start_small_engine
from small_model import batch, report_generator
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.lm import load_lm
from r2gen.lm.compile import compile_layers, layers_of
from r2gen.model.report_generator import ReportGenerator
from r2gen.ranks import dist
from r2gen.train import divided_layers
from r2gen.train import engine as engine_module
from r2gen.train.divided_layers import DividedLayers, can_be_divided
from r2gen.train.engine import DIVIDED, is_sharded, keep_whole, places_weights, room_for

LAYERS = 5


class Ended:
    def wait(self) -> None:
        pass


@pytest.fixture
def gathers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each gathered layer; a buffer that is filled was full of ones, as if another layer were in it."""
    sizes: list[int] = []

    def gather_into(whole: torch.Tensor, own: torch.Tensor) -> Ended:
        sizes.append(len(whole))
        whole.fill_(1)
        whole.copy_(own)
        return Ended()

    monkeypatch.setattr(dist, "gather_into", gather_into)
    return sizes


def frozen_model(*, checkpointing: bool = False) -> ReportGenerator:
    return report_generator(lm="frozen", lively=True, lm_layers=LAYERS, lm_checkpointing=checkpointing)


def divide(model: nn.Module, *, room: int) -> DividedLayers:
    return DividedLayers(layers_of(model), room=room)


def loss_and_gradient(model: ReportGenerator) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    loss = model(batch(0, 1, 2, 3))
    loss.backward()
    gradient = model.projector.linear.weight.grad  # type: ignore[attr-defined, union-attr]
    return loss.detach(), gradient.clone()


def compiled(model: ReportGenerator) -> None:
    compile_layers(model.lm.model)


def unchanged(_: ReportGenerator) -> None:
    pass


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("room", [0, 3, 10**9])
@pytest.mark.parametrize("prepare", [unchanged, compiled])
@pytest.mark.usefixtures("gathers")
def test_losses_and_gradients_are_those_of_whole_layers(
    checkpointing: bool, room: int, prepare: Callable[[ReportGenerator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # which needs no C++ compiler
    model = frozen_model(checkpointing=checkpointing)
    expected = loss_and_gradient(model)
    weights = sum(weight.numel() for weight in layers_of(model)[0].parameters())
    divided = divide(model, room=room * weights)
    prepare(model)
    for _ in range(3):
        with torch.no_grad():
            torch.testing.assert_close(model(batch(0, 1, 2, 3)), expected[0])
        torch.testing.assert_close(loss_and_gradient(model), expected)
        present = sum(weight.numel() for layer in layers_of(model) for weight in layer.parameters())
        assert present <= min(LAYERS, max(2, room)) * weights
        assert len({layer.buffer.data_ptr() for layer in divided.gathered}) == len(divided.gathered)  # type: ignore[union-attr]


@pytest.mark.usefixtures("gathers")
def test_passes_between_forward_and_backward_change_no_gradient() -> None:
    """Then each layer is in another buffer in the backward pass than in the forward pass."""
    model = frozen_model()
    _, expected = loss_and_gradient(model)
    divide(model, room=0)
    model.zero_grad()
    loss = model(batch(0, 1, 2, 3))
    for layer in layers_of(model)[:2]:
        with torch.no_grad():
            model(batch(4))
            layer(torch.zeros(1, 1, 32), position_embeddings=(torch.ones(1, 1, 8), torch.zeros(1, 1, 8)))
    loss.backward()
    gradient = model.projector.linear.weight.grad  # type: ignore[attr-defined, union-attr]
    torch.testing.assert_close(gradient, expected)


@pytest.mark.usefixtures("gathers")
def test_layers_may_be_computed_again_with_their_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in transformers 5.17, whose checkpoint has the hooks of a layer within it."""
    model = frozen_model()
    expected = loss_and_gradient(model)
    divide(model, room=0)
    kind = type(layers_of(model)[0])
    model.lm.gradient_checkpointing = True

    def call(layer: GradientCheckpointingLayer, *states: Any, **options: Any) -> Any:
        return layer._gradient_checkpointing_func(partial(nn.Module.__call__, layer, **options), *states)

    monkeypatch.setattr(kind, "__call__", call)
    for _ in range(2):
        torch.testing.assert_close(loss_and_gradient(model), expected)


def test_layers_that_there_is_room_for_are_not_gathered_again(gathers: list[int]) -> None:
    model = frozen_model()
    weights = sum(weight.numel() for weight in layers_of(model)[0].parameters())
    divide(model, room=3 * weights)
    counts = []
    for _ in range(4):
        loss_and_gradient(model)
        counts.append(len(gathers))
        gathers.clear()
    # Of a pass over five layers the three that are used first are there from the pass before.
    assert counts[1:] == [4, 4, 4]
    divide(whole := frozen_model(), room=10**9)
    gathers.clear()
    for _ in range(4):
        loss_and_gradient(whole)
    assert len(gathers) == LAYERS


@pytest.mark.usefixtures("gathers")
def test_all_layers_are_whole_in_a_context_and_for_good() -> None:
    model = frozen_model()
    state = {name: weight.clone() for name, weight in model.lm.model.state_dict().items()}
    expected = loss_and_gradient(model)
    divided = divide(model, room=0)
    loss_and_gradient(model)
    with divided.whole():
        torch.testing.assert_close(dict(model.lm.model.state_dict()), state, rtol=0, atol=0)
        torch.testing.assert_close(loss_and_gradient(model), expected)
    assert not any(weight.numel() for layer in layers_of(model) for weight in layer.parameters())
    torch.testing.assert_close(loss_and_gradient(model), expected)
    divided.keep_whole()
    torch.testing.assert_close(dict(model.lm.model.state_dict()), state, rtol=0, atol=0)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers_of(model))


@pytest.mark.usefixtures("gathers")
def test_a_layer_that_fails_leaves_no_hook_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen_model()
    expected = loss_and_gradient(model)
    divide(model, room=0)

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as context:
        context.setattr(layers_of(model)[2], "forward", fail)
        with pytest.raises(torch.OutOfMemoryError):
            model(batch(0, 1))
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    torch.testing.assert_close(loss_and_gradient(model), expected)


@pytest.mark.usefixtures("gathers")
def test_a_layer_for_which_there_is_no_memory_is_gathered_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = frozen_model()
    expected = loss_and_gradient(model)
    divided = divide(model, room=0)

    def fail(_: int) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as context:
        context.setattr(divided, "_new_buffer", fail)
        with pytest.raises(torch.OutOfMemoryError):
            model(batch(0, 1))
    torch.testing.assert_close(loss_and_gradient(model), expected)


@needs_published
@pytest.mark.parametrize("name", ["flan_t5", "gemma3", "bloom"])
@pytest.mark.usefixtures("gathers")
def test_layers_of_other_families_are_divided_too(name: str) -> None:
    lm = load_lm(PUBLISHED / name)
    lm.model.requires_grad_(False)
    source = torch.Generator().manual_seed(0)
    prompt_BTE = torch.randn(3, 7, lm.dim, generator=source).requires_grad_()
    report_BL = torch.randint(3, 90, (3, 6), generator=source)
    results = []
    for room in (None, 0):
        if room is not None:
            assert can_be_divided(layers_of(lm.model))
            divide(lm.model, room=room)
        loss_B = lm.loss(prompt_BTE, torch.ones(3, 7, dtype=torch.bool), report_BL)
        results.append((loss_B.detach(), torch.autograd.grad(loss_B.sum(), prompt_BTE)[0]))
    torch.testing.assert_close(*results)


def test_what_trains_is_not_divided_by_us() -> None:
    model = frozen_model()
    assert can_be_divided(layers_of(model))
    assert not can_be_divided([])
    layers_of(model)[1].mlp.up_proj.weight.requires_grad_(True)  # type: ignore[union-attr]
    assert not can_be_divided(layers_of(model))
    shared = frozen_model()
    layers_of(shared)[1].mlp = layers_of(shared)[0].mlp  # type: ignore[assignment]
    assert not can_be_divided(layers_of(shared))


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("lm", "divides", "stage"), [("frozen", True, 2), ("frozen", False, 3), ("lora", True, 3)])
def test_deepspeed_divides_what_trains_and_nothing_that_is_frozen(lm: str, divides: bool, stage: int) -> None:
    model = report_generator(vision="frozen", lm=lm, lm_layers=LAYERS)
    names = list(model.state_dict())
    whole, frozen_lm = [model.vision.backbone], model.lm.model if lm == "frozen" else None
    engine = start_small_engine(
        model, batch_size=4, micro_batch_size=4, zero=3, whole=whole, frozen_lm=frozen_lm, divides=divides
    )
    frozen = [*whole, *([frozen_lm] if frozen_lm is not None else [])]
    assert engine.zero_optimization_stage() == stage
    assert not any(is_sharded(weight) for part in frozen for weight in part.parameters())
    assert all(is_sharded(weight) == (stage == 3) for weight in model.parameters())
    assert DIVIDED not in model.__dict__, "one rank has nothing to divide"
    engine.destroy()
    keep_whole(model)
    assert sorted(model.state_dict()) == sorted(names)


def test_as_many_layers_are_whole_as_the_memory_of_every_gpu_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = layers_of(frozen_model())
    assert room_for(layers) is None, "a CPU has no memory of its own"
    weights = [weight for layer in layers for weight in layer.parameters()]
    count, size = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)

    class OnGpu:
        def __init__(self, weight: torch.Tensor) -> None:
            self.device, self.nbytes, self.count = torch.device("cuda"), weight.nbytes, weight.numel()

        def numel(self) -> int:
            return self.count

    class Layer:
        def parameters(self) -> list[OnGpu]:
            return [OnGpu(weight) for weight in weights]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 * size, 10 * size))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 3 * size)
    for peak, room in ((3, None), (6.9, None), (7.5, count // 2), (9, 0)):
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda peak=peak: int(peak * size))
        monkeypatch.setattr(dist, "gather", lambda own: [own, own + 1])
        assert room_for([Layer()]) == (room if room is None else pytest.approx(room, abs=2))  # type: ignore[list-item]


@pytest.mark.usefixtures("gathers", "world")
@pytest.mark.parametrize(("live", "divides"), [("auto", False), (0, True)])
def test_how_many_weights_are_live_may_be_auto(live: str | int, divides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = report_generator(vision="frozen", lm="frozen")
    initialize = engine_module._initialize

    def with_two_ranks(*arguments: Any) -> Any:
        engine = initialize(*arguments)
        monkeypatch.setattr(dist, "world", lambda: 2)
        return engine

    monkeypatch.setattr(engine_module, "_initialize", with_two_ranks)
    start_small_engine(
        model, batch_size=4, micro_batch_size=4, zero=3, frozen_lm=model.lm.model, stage3_max_live_parameters=live
    ).destroy()
    assert (DIVIDED in model.__dict__) == divides


@pytest.mark.usefixtures("world")
def test_with_offloaded_weights_deepspeed_divides_all_but_a_frozen_encoder() -> None:
    """Ranks may call that differently often."""
    model = report_generator(vision="frozen", lm="frozen")
    encoder = model.vision.backbone
    engine = start_small_engine(
        model,
        batch_size=4,
        micro_batch_size=4,
        zero=3,
        whole=[encoder],
        frozen_lm=model.lm.model,
        offload_param={"device": "cpu"},
    )
    assert all(map(is_sharded, model.parameters()))
    assert list(model.lm.model.parameters())
    assert not any(map(is_sharded, encoder.parameters()))
    engine.destroy()


def test_options_of_deepspeed_say_where_weights_are_or_are_its_defaults() -> None:
    defaults = {"offload_param": {"device": "none"}, "zero_hpz_partition_size": 1, "mics_shard_size": -1}
    assert not places_weights({"stage": 3})
    assert not places_weights({"stage": 3, "offload_param": None, "zero_quantized_weights": False})
    assert not places_weights(defaults)
    assert places_weights(defaults | {"offload_param": {"device": "nvme"}})
    assert places_weights(defaults | {"zero_hpz_partition_size": 8})
    assert places_weights(defaults | {"mics_shard_size": 2})
    assert places_weights(defaults | {"zero_quantized_weights": True})


def test_a_place_is_a_view_of_its_type() -> None:
    buffer = torch.arange(24, dtype=torch.uint8)
    weight = buffer.view(torch.float32).view(2, 3).T
    place = divided_layers.Place(0, weight.shape, weight.stride(), weight.dtype)
    torch.testing.assert_close(place.of(buffer.clone()), weight)
