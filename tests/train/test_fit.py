"""The training loop: validations, early stopping, losses that are not finite, and resuming."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_engine import equal, fit_small, start_small_engine
from small_model import STUDIES, dataset, report_generator
from small_model import image as noise

from r2gen.errors import UserError
from r2gen.ranks.stop import Stopped, StopRequest
from r2gen.runs.untrusted import read_jsonl
from r2gen.train.checkpoint import BEST, LAST, Checkpoints, TrainState
from r2gen.train.engine import trainable_tensors
from r2gen.train.fit import validation_steps

pytestmark = pytest.mark.usefixtures("world")


class NoStop(StopRequest):
    """A request that no signal makes, so that pytest handles Ctrl-C itself."""

    def __init__(self) -> None:
        self.requested = False


class Run:
    """A run folder and its engine; 24 studies and 8 per step, so that three steps are an epoch."""

    def __init__(self, folder: Path, *, data: Any = None, resume: bool = False) -> None:
        self.folder, self.data, self.stop = folder, data or dataset(), NoStop()
        folder.mkdir(exist_ok=True)
        model = report_generator()
        self.engine = start_small_engine(model, batch_size=8, micro_batch_size=4, gradient_clipping=1.0)
        self.checkpoints = Checkpoints(folder, keep=2)
        self.state = self.checkpoints.resume(self.engine, zero_stage=0, weights_only=False) if resume else TrainState()
        self.validated: list[int] = []

    def fit(
        self,
        total: int,
        *,
        scores: list[float] | None = None,
        at: set[int] | None = None,
        validate: Callable[[], dict[str, float]] | None = None,
        **changes: Any,
    ) -> TrainState:
        values = iter(scores or [])

        def next_score() -> dict[str, float]:
            assert not self.engine.module.training
            self.validated.append(self.state.step)
            return {"quality": next(values)}

        return fit_small(
            self.engine,
            self.data,
            self.folder,
            total,
            at=at or {total},
            validate=validate or (next_score if scores else None),
            checkpoints=self.checkpoints,
            state=self.state,
            stop=self.stop,
            **changes,
        )

    def weights(self) -> dict[str, torch.Tensor]:
        return trainable_tensors(self.engine)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs = []

    def started(name: str = "run", **options: Any) -> Run:
        runs.append(Run(tmp_path / name, **options))
        return runs[-1]

    yield started
    for run in runs:
        run.engine.destroy()


@pytest.mark.parametrize(
    ("studies", "batch_size", "every", "total", "steps"),
    [
        (24, 8, 1, 9, {3, 6, 9}),
        (25, 8, 1, 7, {4, 7}),
        (24, 8, 0.5, 6, {2, 3, 5, 6}),
        (24, 8, 5, 6, {6}),
        (24, 8, 1, 7, {3, 6, 7}),
        (10, 4, 2, 5, {5}),
        (100, 10, 0.3, 9, {3, 6, 9}),
        (3, 12, 1, 2, {1, 2}),
        (10, 1, 0.1, 10, set(range(1, 11))),
    ],
)
def test_validation_is_every_n_epochs_and_at_the_end(
    studies: int, batch_size: int, every: float, total: int, steps: set[int]
):
    assert validation_steps(studies=studies, batch_size=batch_size, every_epochs=every, total_steps=total) == steps


def test_the_start_can_be_the_best_checkpoint_and_is_scored_once(start: Callable[..., Run]):
    run = start()
    state = run.fit(1, at={0, 1}, scores=[0.4, 0.3])
    assert run.validated == [0, 1]
    assert (state.best_step, state.best_score, state.stale) == (0, 0.4, 1)
    best = run.checkpoints.path(BEST)
    assert best is not None
    assert best.name == "step-00000000"


def test_a_run_stopped_after_scoring_its_start_resumes_bit_for_bit(start: Callable[..., Run]):
    whole, stopped = start("whole"), start("stopped")
    whole.fit(2, at={0, 2}, scores=[0.1, 0.2])
    stopped.fit(0, at={0}, scores=[0.1])
    resumed = start("stopped", resume=True)
    resumed.fit(2, at={0, 2}, scores=[0.2])
    assert resumed.validated == [2]
    assert equal(resumed.weights(), whole.weights())


def test_the_best_checkpoint_has_the_highest_validation_score(start: Callable[..., Run]):
    run = start()
    state = run.fit(4, at={1, 2, 3, 4}, scores=[0.1, 0.4, 0.4, 0.3])
    assert run.validated == [1, 2, 3, 4]
    assert (state.best_step, state.best_score, state.stale) == (2, 0.4, 2)  # the first of equals
    assert run.checkpoints.state(BEST).step == 2
    assert run.checkpoints.state(LAST).step == 4
    records = read_jsonl(run.folder / "train.jsonl")
    assert [(r["step"], r["best"]) for r in records if r["event"] == "validation"] == [
        (1, True),
        (2, True),
        (3, False),
        (4, False),
    ]


def test_without_a_validation_split_the_last_checkpoint_is_the_best(start: Callable[..., Run]):
    run = start()
    run.fit(2, at={1, 2})
    assert run.checkpoints.state(BEST).step == 2


def test_patience_counts_validations_without_a_better_score(start: Callable[..., Run]):
    run = start()
    state = run.fit(9, at=set(range(1, 10)), scores=[0.3, 0.2, 0.5, 0.4, 0.5, 0.6], patience=2)
    assert run.validated == [1, 2, 3, 4, 5]
    assert (state.step, state.best_step) == (5, 3)
    again = start(resume=True)
    assert again.fit(9, at={9}, scores=[0.9], patience=2).step == 5  # the same command again trains no more


def test_each_step_is_logged_with_its_learning_rate_and_loss(start: Callable[..., Run]):
    run = start()
    run.fit(4, save_every_steps=2)
    records = read_jsonl(run.folder / "train.jsonl")
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert [r["lr"] for r in records] == pytest.approx([0.5e-3, 1e-3, 1e-3, 1e-3])
    assert records[2]["epoch"] == 1
    assert records[0]["loss"] == pytest.approx(torch.tensor(300.0).log().item(), rel=0.1)  # nats of a random model
    assert records[3]["loss"] < records[0]["loss"]
    assert all(r["grad_norm"] > 0 for r in records)
    assert run.checkpoints.state(LAST).step == 4


def test_a_logged_loss_is_the_mean_over_the_tokens_of_that_step(start: Callable[..., Run]):
    often, seldom = start("often"), start("seldom")
    often.fit(4)
    seldom.fit(4, log_every_steps=2)
    last = [read_jsonl(run.folder / "train.jsonl")[-1] for run in (often, seldom)]
    assert last[0]["loss"] == last[1]["loss"]


@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_not_finite_is_refused_with_its_studies_and_not_saved(start: Callable[..., Run], step: int):
    run = start()
    run.fit(step - 1) if step > 1 else None
    run.engine.module.projector.linear.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite on the studies study-\d+(, study-\d+){7}: "):
        run.fit(5, save_every_steps=1, at={1, 2, 3, 4, 5})
    assert run.state.step == step - 1
    saved = run.checkpoints.state(LAST)
    assert (saved.step if saved else 0) == step - 1


def test_a_gradient_that_is_not_finite_is_not_saved(start: Callable[..., Run]):
    run = start()
    run.engine.module.projector.linear.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(UserError, match="not finite"):
        run.fit(1)
    assert run.checkpoints.state(LAST) is None


def test_only_the_studies_of_the_micro_batch_at_fault_are_named(start: Callable[..., Run]):
    run = start()
    handle = run.engine.module.vision.register_forward_pre_hook(spoil_second_call())
    with pytest.raises(UserError, match=r"on the studies study-\d+(, study-\d+){3}: "):
        run.fit(2)
    handle.remove()
    assert run.checkpoints.state(LAST) is None


def spoil_second_call() -> Callable[..., Any]:
    """A hook that makes the encoder's output NaN in its second call."""
    calls = iter(range(100))

    def hook(encoder: Any, arguments: Any) -> None:
        encoder.mean_C.fill_(float("nan") if next(calls) == 1 else 0.5)

    return hook


def test_a_stopped_run_resumes_to_the_weights_of_an_uninterrupted_one(start: Callable[..., Run]):
    uninterrupted, stopped = start("uninterrupted"), start("stopped")
    uninterrupted.fit(5, at={3, 5}, scores=[0.1, 0.2])

    def request_stop() -> dict[str, float]:
        stopped.stop.requested = True
        return {"quality": 0.1}

    with pytest.raises(Stopped):
        stopped.fit(5, at={3, 5}, validate=request_stop)
    assert stopped.checkpoints.state(LAST).step == 4  # the next step is finished and saved
    resumed = start("stopped", resume=True)
    state = resumed.fit(5, at={3, 5}, scores=[0.2])
    assert (state.step, state.best_step, state.best_score) == (5, 5, 0.2)
    assert equal(uninterrupted.weights(), resumed.weights())
    losses = [
        [(r["step"], r["loss"]) for r in read_jsonl(run.folder / "train.jsonl") if r["event"] == "step"]
        for run in (uninterrupted, resumed)
    ]
    assert losses[0] == losses[1]


def test_a_stop_during_a_validation_loses_no_training_and_the_next_command_validates(start: Callable[..., Run]):
    run = start("stopped")

    def stop() -> dict[str, float]:
        raise Stopped

    with pytest.raises(Stopped):
        run.fit(3, at={3}, validate=stop)
    assert run.checkpoints.state(LAST).step == 3
    state = start("stopped", resume=True).fit(3, at={3}, scores=[0.7])
    assert (state.step, state.best_step, state.best_score, state.validated_step) == (3, 3, 0.7, 3)


def test_a_stop_in_the_last_step_leaves_the_last_validation_to_the_next_command(start: Callable[..., Run]):
    run = start("last")
    run.stop.requested = True
    with pytest.raises(Stopped):
        run.fit(1, at={1})
    resumed = start("last", resume=True)
    resumed.fit(1, at={1}, scores=[0.7])
    assert resumed.checkpoints.best().name == "step-00000001"


def test_each_epoch_reads_every_image_once(start: Callable[..., Run]):
    reads: list[str] = []
    run = start(data=dataset(image=lambda view: (reads.append(view), noise(view))[1]))
    run.fit(3)
    assert sorted(reads) == sorted(view for study in STUDIES for view in study.views)
