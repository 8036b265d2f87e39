"""Checkpoints are written atomically, read strictly and pruned, and a run resumes from them bit for bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_engine import equal, start_small_engine
from small_model import batch, report_generator
from torch import nn

from r2gen.errors import UserError
from r2gen.runs.files import point
from r2gen.train.checkpoint import BEST, LAST, Checkpoints, TrainState, load_best, load_trainable
from r2gen.train.engine import Engine, backward, trainable_tensors
from r2gen.vision.batch_norm import moving_statistics


def started(*, zero: int = 0, bf16: bool = False) -> Engine:
    model = report_generator(vision="frozen").to(torch.bfloat16 if bf16 else torch.float32)
    return start_small_engine(
        model, batch_size=2, micro_batch_size=2, zero=zero, bf16=bf16, gradient_clipping=1.0, learning_rate=1e-2
    )


def step(engine: Engine, *studies: int) -> None:
    micro_batch = batch(*studies)
    backward(engine, engine(micro_batch), torch.tensor(float(micro_batch.target_tokens)))
    engine.step()


@pytest.fixture
def engine(world: None) -> Iterator[Engine]:
    engine = started()
    yield engine
    engine.destroy()


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_a_run_resumes_bit_for_bit_or_from_exactly_the_stored_weights(zero: int, bf16: bool, tmp_path: Path):
    unbroken = started(zero=zero, bf16=bf16)
    step(unbroken, 0, 1)
    step(unbroken, 2, 3)
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, unbroken, TrainState(step=2, best_score=0.5, world=1, zero_stage=zero), is_best=True)
    stored = trainable_tensors(unbroken)
    assert equal(load_file(tmp_path / "checkpoints" / "last" / "trainable.safetensors"), stored)
    step(unbroken, 4, 5)

    resumed = started(zero=zero, bf16=bf16)
    state = checkpoints.resume(resumed, zero_stage=zero, weights_only=False)
    assert (state.step, state.best_score) == (2, 0.5)
    assert equal(trainable_tensors(resumed), stored)
    step(resumed, 4, 5)
    assert equal(trainable_tensors(resumed), trainable_tensors(unbroken))

    weights = started(zero=zero, bf16=bf16)
    assert checkpoints.resume(weights, zero_stage=zero, weights_only=True).step == 2
    assert equal(trainable_tensors(weights), stored)
    step(weights, 4, 5)  # with new moments: a different step
    assert not equal(trainable_tensors(weights), stored)
    for engine in (unbroken, resumed, weights):
        engine.destroy()


def save(checkpoints: Checkpoints, engine: Engine, state: TrainState, *, is_best: bool) -> None:
    checkpoints.save(engine, state)
    checkpoints.record(state, is_best=is_best)


def test_another_zero_stage_or_number_of_ranks_is_refused_with_the_fix(engine: Engine, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1, world=2, zero_stage=1), is_best=False)
    with pytest.raises(UserError, match=r"2 rank\(s\) with ZeRO 1.*trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=0, weights_only=False)
    state = checkpoints.resume(engine, zero_stage=0, weights_only=True)
    assert (state.step, state.world, state.zero_stage) == (1, 1, 0)


def test_a_run_without_a_checkpoint_starts_at_step_0(engine: Engine, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.resume(engine, zero_stage=2, weights_only=False) == TrainState(world=1, zero_stage=2)
    assert checkpoints.state(LAST) is None
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoints.best()


def test_links_are_relative_and_all_but_the_last_and_the_best_are_pruned(engine: Engine, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number in range(1, 6):
        save(checkpoints, engine, TrainState(step=number), is_best=number == 2)
    left = {path.name: path for path in (tmp_path / "checkpoints").iterdir()}
    assert set(left) == {"step-00000002", "step-00000004", "step-00000005", LAST, BEST}
    assert (str(left[LAST].readlink()), str(left[BEST].readlink())) == ("step-00000005", "step-00000002")
    save(checkpoints, engine, TrainState(step=6), is_best=True)
    assert {path.name for path in (tmp_path / "checkpoints").glob("step-*")} == {f"step-0000000{n}" for n in (2, 5, 6)}
    assert checkpoints.best() == (tmp_path / "checkpoints" / "step-00000006").resolve()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "checkpoints").rename(moved / "checkpoints")
    assert Checkpoints(moved, keep=2).best().parent.parent == moved.resolve()


def test_only_trainable_weights_are_written_and_the_digest_changes_with_them(engine: Engine, tmp_path: Path):
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


@pytest.mark.usefixtures("world")
def test_statistics_of_batch_norm_that_move_are_written_and_read(tmp_path: Path):
    def started() -> Engine:
        return start_small_engine(report_generator(moving_batch_norm=True), batch_size=2, micro_batch_size=2)

    engine, checkpoints = started(), Checkpoints(tmp_path, keep=2)
    step(engine, 0, 1)
    save(checkpoints, engine, TrainState(step=1), is_best=True)
    stored = {name: value.clone() for name, value in moving_statistics(engine.module).items()}
    step(engine, 2, 3)
    save(checkpoints, engine, TrainState(step=2), is_best=False)
    assert not equal(stored, moving_statistics(engine.module))
    model = report_generator(moving_batch_norm=True)
    load_best(model, tmp_path)
    assert equal(stored, moving_statistics(model)), "the best checkpoint has its own"
    resumed = started()
    checkpoints.resume(resumed, zero_stage=0, weights_only=False)
    assert equal(moving_statistics(resumed.module), moving_statistics(engine.module))
    engine.destroy()
    resumed.destroy()


def test_another_format_is_refused(engine: Engine, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, engine, TrainState(step=1), is_best=True)
    file = checkpoints.best() / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 7}))
    with pytest.raises(UserError, match="format 7"):
        checkpoints.state(LAST)


def test_damaged_engine_files_are_refused_with_the_fix(engine: Engine, tmp_path: Path):
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


@pytest.mark.parametrize("fault", ["missing", "unexpected", "other shape", "truncated", "absent", "empty"])
def test_weights_that_do_not_match_the_trainable_parameters_are_refused(fault: str, tmp_path: Path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].requires_grad_(False)
    tensors, file = {"0.weight": torch.ones(3, 3), "0.bias": torch.ones(3)}, tmp_path / "trainable.safetensors"
    if fault == "missing":
        del tensors["0.bias"]
    elif fault == "unexpected":
        tensors["1.weight"] = torch.ones(3, 3)  # frozen here
    elif fault == "other shape":
        tensors["0.bias"] = torch.ones(1)  # would broadcast
    save_file(tensors, file)
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-4])
    elif fault == "empty":
        file.write_bytes(b"")
    elif fault == "absent":
        file.unlink()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"trainable\.safetensors"):
        load_trainable(model, tmp_path)
    assert equal(before, model.state_dict())


def test_matching_weights_are_loaded_exactly(tmp_path: Path):
    model = nn.Linear(3, 3)
    tensors = {"weight": torch.randn(3, 3), "bias": torch.randn(3)}
    save_file(tensors, tmp_path / "trainable.safetensors")
    load_trainable(model, tmp_path)
    assert equal(tensors, {name: parameter.detach() for name, parameter in model.named_parameters()})


class Evil:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("zero", [0, 1])
def test_engine_files_that_contain_code_are_refused_and_nothing_is_run(zero: int, tmp_path: Path):
    checkpoints, engine = Checkpoints(tmp_path, keep=2), started(zero=zero)
    save(checkpoints, engine, TrainState(step=1, zero_stage=zero), is_best=True)
    canary = tmp_path / "canary"
    for file in checkpoints.best().glob("engine/*"):
        torch.save({**torch.load(file, weights_only=False), "more": Evil(canary)}, file)
    with pytest.raises(UserError, match=r"(?s)engine cannot be read: Unsupported global.*trainer\.resume=weights"):
        checkpoints.resume(engine, zero_stage=zero, weights_only=False)
    assert not canary.exists()
    engine.destroy()


def test_pruning_keeps_the_last_and_the_best_checkpoint_and_those_after_the_last(tmp_path: Path):
    """In a run folder that is a symbolic link."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    for step in (1, 2, 3, 4, 5):
        (checkpoints.folder / f"step-{step:08d}").mkdir(parents=True)
    point(checkpoints.folder / BEST, "step-00000001")
    point(checkpoints.folder / LAST, "step-00000003")  # set back by hand
    checkpoints.record(TrainState(step=3), is_best=False)
    left = {path.name for path in checkpoints.folder.glob("step-*")}
    assert left == {f"step-0000000{step}" for step in (1, 3, 4, 5)}
