"""The moving average of the weights is the one computed by hand, and what is validated, stored and resumed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_engine import equal, largest_difference, start_small_engine
from small_model import batch, report_generator

from r2gen.errors import UserError
from r2gen.train.averaging import WeightAverage, decay_at
from r2gen.train.checkpoint import BEST, Checkpoints, TrainState, load_trainable
from r2gen.train.engine import Engine, backward, keep_whole, step, trainable_tensors
from r2gen.vision.batch_norm import moving_statistics

pytestmark = pytest.mark.usefixtures("world")
DECAY = 0.6
STAGES = [(0, False), (0, True), (1, True), (2, False), (3, False), (3, True)]
Averaged = tuple[Engine, WeightAverage]
Start = Callable[..., Averaged]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts engines with an average, which are destroyed after the test."""
    engines: list[Engine] = []

    def started(zero: int = 0, bf16: bool = False, moving_batch_norm: bool = False) -> Averaged:
        vision: Any = {"moving_batch_norm": True} if moving_batch_norm else {"vision": "lora"}
        model = report_generator(dropout=0.1, **vision).to(torch.bfloat16 if bf16 else torch.float32)
        engine = start_small_engine(
            model, batch_size=2, micro_batch_size=2, zero=zero, bf16=bf16, learning_rate=1e-2, gradient_clipping=1.0
        )
        engines.append(engine)
        return engine, WeightAverage(engine, DECAY)

    yield started
    for engine in engines:
        engine.destroy()


def train(engine: Engine, average: WeightAverage, *numbers: int) -> None:
    """Take the steps with these numbers."""
    engine.train()
    for number in numbers:
        torch.manual_seed(number)
        micro_batch = batch(2 * number, 2 * number + 1)
        backward(engine, engine(micro_batch), torch.tensor(float(micro_batch.target_tokens)))
        step(engine)
        average.update(number)


def module_weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine.module.named_parameters() if p.requires_grad}


def statistics(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in moving_statistics(engine.module).items()}


def test_the_decay_grows_to_the_one_that_was_set():
    assert [decay_at(number, 0.6) for number in (1, 2, 12, 13, 1000)] == [2 / 11, 3 / 12, 13 / 22, 0.6, 0.6]


@pytest.mark.parametrize(("zero", "bf16"), STAGES)
def test_the_average_of_three_steps_is_the_one_computed_by_hand(start: Start, zero: int, bf16: bool):
    engine, average = start(zero, bf16)
    expected = trainable_tensors(engine)
    for number, decay in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        train(engine, average, number)
        weights = trainable_tensors(engine)
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    assert largest_difference(average.tensors(), expected) < 1e-6
    assert largest_difference(average.tensors(), weights) > 1e-3
    assert equal(trainable_tensors(engine), weights)


@pytest.mark.parametrize(("zero", "bf16"), STAGES)
def test_the_module_has_the_average_within_the_context_and_its_own_weights_afterwards(
    start: Start, zero: int, bf16: bool
):
    engine, average = start(zero, bf16)
    train(engine, average, 1, 2)
    masters, before = trainable_tensors(engine), module_weights(engine)
    with average.in_module():
        inside = module_weights(engine)
    assert equal(trainable_tensors(engine), masters)
    assert equal(module_weights(engine), before)
    dtype = torch.bfloat16 if bf16 else torch.float32
    assert equal(inside, {name: value.to(dtype) for name, value in average.tensors().items()})


@pytest.mark.parametrize(("zero", "bf16"), STAGES)
def test_a_run_resumes_bit_for_bit_and_its_checkpoint_has_the_average(
    start: Start, zero: int, bf16: bool, tmp_path: Path
):
    unbroken, average = start(zero, bf16)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.average = average
    train(unbroken, average, 1, 2)
    state = TrainState(step=2, world=1, zero_stage=zero)
    checkpoints.save(unbroken, state)
    checkpoints.record(state, is_best=True)
    stored = average.tensors()
    train(unbroken, average, 3)

    resumed, checkpoints.average = start(zero, bf16)
    assert checkpoints.resume(resumed, zero_stage=zero, weights_only=False).step == 2
    assert equal(checkpoints.average.tensors(), stored)
    train(resumed, checkpoints.average, 3)
    assert equal(trainable_tensors(resumed), trainable_tensors(unbroken))
    assert equal(checkpoints.average.tensors(), average.tensors())

    alone, checkpoints.average = start(zero, bf16)
    checkpoints.resume(alone, zero_stage=zero, weights_only=True)
    assert equal(trainable_tensors(alone), stored)
    assert equal(checkpoints.average.tensors(), stored)
    keep_whole(alone.module)
    path = checkpoints.path(BEST)
    assert path is not None
    assert equal(dict(load_trainable(alone.module, path)), stored)


def test_statistics_of_batch_norm_are_averaged_and_the_number_of_batches_is_not(start: Start):
    engine, average = start(moving_batch_norm=True)
    expected = statistics(engine)
    for number, decay in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        train(engine, average, number)
        own = statistics(engine)
        expected = {
            name: decay * value + (1 - decay) * own[name] if value.is_floating_point() else own[name]
            for name, value in expected.items()
        }
    averaged = {name: average.tensors()[name] for name in own}
    assert largest_difference(averaged, expected) < 1e-6
    assert largest_difference(averaged, own) > 1e-3
    assert {int(value) for name, value in averaged.items() if name.endswith("num_batches_tracked")} == {3}
    with average.in_module():
        assert equal(statistics(engine), averaged)
    assert equal(statistics(engine), own)


@pytest.mark.parametrize(("zero", "bf16"), [(0, False), (2, False), (3, False), (3, True)])
def test_moving_statistics_and_their_average_resume_bit_for_bit(start: Start, zero: int, bf16: bool, tmp_path: Path):
    unbroken, average = start(zero, bf16, moving_batch_norm=True)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.average = average
    train(unbroken, average, 1, 2)
    checkpoints.save(unbroken, TrainState(step=2, world=1, zero_stage=zero))
    stored = average.tensors()
    train(unbroken, average, 3)

    resumed, checkpoints.average = start(zero, bf16, moving_batch_norm=True)
    checkpoints.resume(resumed, zero_stage=zero, weights_only=False)
    assert equal(checkpoints.average.tensors(), stored)
    train(resumed, checkpoints.average, 3)
    assert equal(statistics(resumed), statistics(unbroken))
    assert equal(checkpoints.average.tensors(), average.tensors())

    alone, checkpoints.average = start(zero, bf16, moving_batch_norm=True)
    checkpoints.resume(alone, zero_stage=zero, weights_only=True)
    assert equal(trainable_tensors(alone) | statistics(alone), stored)


def test_an_average_of_another_model_is_refused(start: Start):
    _, average = start()
    with pytest.raises(UserError, match="the checkpoint is of another model: missing"):
        average.load({})
