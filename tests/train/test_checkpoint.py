"""Checkpoints: whole or not there, read strictly, pruned, and enough to go on bit for bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import batch, report_generator
from torch import nn

from r2gen.errors import UserError
from r2gen.train.checkpoint import BEST, LAST, Checkpoints, TrainState, load_trainable, point
from r2gen.train.engine import backward, start_engine, trainable_tensors
from r2gen.train.optim import adamw


def engine_of(*, zero: int = 0, bf16: bool = False) -> Any:
    model = report_generator(vision="frozen").to(torch.bfloat16 if bf16 else torch.float32)
    optimizer = adamw(model, learning_rate=1e-2, betas=(0.9, 0.999), weight_decay=0.01)
    return start_engine(
        model,
        optimizer,
        batch_size=2,
        micro_batch_size=2,
        gradient_clipping=1.0,
        bf16=bf16,
        options={"zero_optimization": {"stage": zero}},
    )


def step(engine: Any, *studies: int) -> None:
    part = batch(*studies)
    backward(engine, engine(part), torch.tensor(float(part.target_tokens)))
    engine.step()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def engine(world: None) -> Iterator[Any]:
    engine = engine_of()
    yield engine
    engine.destroy()


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_going_on_is_bit_for_bit_and_with_weights_alone_they_are_exact(zero: int, bf16: bool, tmp_path: Path):
    unbroken = engine_of(zero=zero, bf16=bf16)
    step(unbroken, 0, 1)
    step(unbroken, 2, 3)
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, unbroken, TrainState(step=2, best_score=0.5, world=1, zero_stage=zero), is_best=True)
    stored = trainable_tensors(unbroken)
    assert same(load_file(tmp_path / "checkpoints" / "last" / "trainable.safetensors"), stored)
    step(unbroken, 4, 5)

    resumed = engine_of(zero=zero, bf16=bf16)
    state = checkpoints.resume(resumed, zero_stage=zero, weights_only=False)
    assert (state.step, state.best_score) == (2, 0.5)
    assert same(trainable_tensors(resumed), stored)
    step(resumed, 4, 5)
    assert same(trainable_tensors(resumed), trainable_tensors(unbroken))

    weights = engine_of(zero=zero, bf16=bf16)
    assert checkpoints.resume(weights, zero_stage=zero, weights_only=True).step == 2
    assert same(trainable_tensors(weights), stored)
    step(weights, 4, 5)  # from fresh moments: another step, but from the stored weights and not from the drawn ones
    assert not same(trainable_tensors(weights), stored)
    for engine in (unbroken, resumed, weights):
        engine.destroy()


def save(checkpoints: Checkpoints, engine: Any, state: TrainState, *, is_best: bool) -> None:
    checkpoints.save(engine, state)
    checkpoints.record(state, is_best=is_best)


def test_another_zero_stage_or_rank_count_is_refused_with_the_way_out(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1, world=2, zero_stage=1), is_best=False)
    with pytest.raises(UserError, match=r"2 rank\(s\) under ZeRO 1.*trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=0, weights_only=False)
    state = checkpoints.resume(engine, zero_stage=0, weights_only=True)
    assert (state.step, state.world, state.zero_stage) == (1, 1, 0)


def test_a_fresh_run_starts_at_0(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.resume(engine, zero_stage=2, weights_only=False) == TrainState(world=1, zero_stage=2)
    assert checkpoints.state(LAST) is None
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoints.best()


def test_links_are_relative_and_all_but_the_last_and_the_best_are_pruned(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number in range(1, 6):
        save(checkpoints, engine, TrainState(step=number), is_best=number == 2)
    kept = {path.name: path for path in (tmp_path / "checkpoints").iterdir()}
    assert set(kept) == {"step-00000002", "step-00000004", "step-00000005", LAST, BEST}
    assert (str(kept[LAST].readlink()), str(kept[BEST].readlink())) == ("step-00000005", "step-00000002")
    save(checkpoints, engine, TrainState(step=6), is_best=True)
    assert {path.name for path in (tmp_path / "checkpoints").glob("step-*")} == {f"step-0000000{n}" for n in (2, 5, 6)}
    assert checkpoints.best() == (tmp_path / "checkpoints" / "step-00000006").resolve()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "checkpoints").rename(moved / "checkpoints")
    assert Checkpoints(moved, keep=2).best().parent.parent == moved.resolve()


def test_only_what_trains_is_written_and_the_digest_follows_it(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1), is_best=True)
    first = checkpoints.best_digest()
    tensors = load_file(checkpoints.best() / "trainable.safetensors")
    assert set(tensors) == {name for name, p in engine.module.named_parameters() if p.requires_grad}
    assert not any(name.startswith("vision.backbone") for name in tensors)
    frozen = engine.module.vision.backbone.stem[0].weight
    stored = [
        tensor
        for file in checkpoints.best().glob("engine/*model_states.pt")
        for tensor in torch.load(file, weights_only=False)["module"].values()
    ]
    assert stored
    assert not any(tensor.shape == frozen.shape and torch.equal(tensor, frozen) for tensor in stored)
    step(engine, 0, 1)
    save(checkpoints, engine, TrainState(step=2), is_best=True)
    assert checkpoints.best_digest() != first


def test_another_format_is_refused(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1), is_best=True)
    file = checkpoints.best() / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 7}))
    with pytest.raises(UserError, match="format 7"):
        checkpoints.state(LAST)


def test_broken_engine_files_are_refused_with_the_way_out(engine: Any, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1), is_best=True)
    for file in checkpoints.best().glob("engine/*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=0, weights_only=False)
    for file in checkpoints.best().glob("engine/*"):
        file.unlink()
    with pytest.raises(UserError, match=r"trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=0, weights_only=False)


@pytest.mark.parametrize("harm", ["missing", "unexpected", "other shape", "truncated", "absent", "empty"])
def test_weights_that_are_not_exactly_what_trains_are_refused(harm: str, tmp_path: Path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].requires_grad_(False)
    tensors, file = {"0.weight": torch.ones(3, 3), "0.bias": torch.ones(3)}, tmp_path / "trainable.safetensors"
    if harm == "missing":
        del tensors["0.bias"]
    elif harm == "unexpected":
        tensors["1.weight"] = torch.ones(3, 3)  # frozen here
    elif harm == "other shape":
        tensors["0.bias"] = torch.ones(1)  # would broadcast
    save_file(tensors, file)
    if harm == "truncated":
        file.write_bytes(file.read_bytes()[:-4])
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "absent":
        file.unlink()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"trainable\.safetensors"):
        load_trainable(model, tmp_path)
    assert same(before, model.state_dict())


def test_weights_that_fit_are_put_in_exactly(tmp_path: Path):
    model = nn.Linear(3, 3)
    tensors = {"weight": torch.randn(3, 3), "bias": torch.randn(3)}
    save_file(tensors, tmp_path / "trainable.safetensors")
    load_trainable(model, tmp_path)
    assert same(tensors, {name: parameter.detach() for name, parameter in model.named_parameters()})


class Evil:
    """A pickle of it makes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("zero", [0, 1])
def test_engine_files_with_code_in_them_are_refused_and_run_nothing(zero: int, tmp_path: Path):
    checkpoints, engine = Checkpoints(tmp_path, keep=2), engine_of(zero=zero)
    save(checkpoints, engine, TrainState(step=1, zero_stage=zero), is_best=True)
    canary = tmp_path / "canary"
    for file in checkpoints.best().glob("engine/*"):
        torch.save({**torch.load(file, weights_only=False), "more": Evil(canary)}, file)
    with pytest.raises(UserError, match=r"(?s)engine cannot be read: Unsupported global.*trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=zero, weights_only=False)
    assert not canary.exists()
    engine.destroy()


def test_neither_the_last_nor_the_best_is_pruned_through_a_link_or_behind_a_later_one(tmp_path: Path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    for step in (1, 2, 3, 4, 5):
        (checkpoints.folder / f"step-{step:08d}").mkdir(parents=True)
    point(checkpoints.folder / BEST, "step-00000001")
    point(checkpoints.folder / LAST, "step-00000003")  # set back by hand
    checkpoints.record(TrainState(step=3), is_best=False)
    kept = {path.name for path in checkpoints.folder.glob("step-*")}
    assert kept == {f"step-0000000{step}" for step in (1, 3, 4, 5)}
