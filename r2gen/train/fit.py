"""The training loop: steps, validations, checkpoints. Read it top to bottom."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from r2gen.data.collate import Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import MicroBatches, TrainingExamples, TrainingOrder, batch_loader, seed_torch
from r2gen.errors import UserError
from r2gen.model.report_generator import StepLoss
from r2gen.ranks import dist
from r2gen.ranks.stop import Stopped, StopRequest
from r2gen.runs.phase import Phase, in_phase
from r2gen.train.checkpoint import Checkpoints, TrainState
from r2gen.train.engine import Engine, backward, peak_gib, step, whole_weights
from r2gen.train.loggers import StepRecord, TrainLog, ValidationRecord
from r2gen.train.objectives.objective import PLAIN, Objective, Step
from r2gen.train.optim import rate_at, set_rate


@dataclass(frozen=True)
class LoopSettings:
    """The options of the loop, from the group `trainer` and the seed."""

    batch_size: int
    micro_batch_size: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    schedule: str
    patience: int | None
    workers: int
    save_every_steps: int | None
    log_every_steps: int
    shuffle: bool
    seed: int


@in_phase(Phase.TRAINING)
def fit(
    engine: Engine,
    dataset: StudyDataset,
    *,
    settings: LoopSettings,
    total_steps: int,
    validation_steps: set[int],
    validate: Callable[[], dict[str, float]] | None,
    selection: Callable[[dict[str, float]], float],
    checkpoints: Checkpoints,
    state: TrainState,
    log: TrainLog,
    refresh_page: Callable[[], None],
    stop: StopRequest,
    objective: Objective = PLAIN,
) -> TrainState:
    """Train from `state` to `total_steps`.

    `validate` scores the validation split; it is None if the split is empty, and then the last checkpoint counts as the
    best. `selection` turns scores into the number that picks the best checkpoint, higher is better. Raises Stopped
    after saving a checkpoint if a signal requests a stop, and UserError if a loss is not finite.
    """
    order = TrainingOrder(len(dataset), seed=settings.seed, shuffle=settings.shuffle, weights=dataset.weights)
    batches = MicroBatches(
        first=state.step,
        last=total_steps,
        batch_size=settings.batch_size,
        rank=dist.rank(),
        micro_batch_size=settings.micro_batch_size,
        world=dist.world(),
    )
    on_gpu = engine.device.type == "cuda"
    micro_batches = iter(batch_loader(TrainingExamples(dataset, order), batches, workers=settings.workers, pin=on_gpu))
    accumulation = len(batches) // max(1, total_steps - state.step)
    watch = LossWatch()
    engine.train()
    began, first_step, seconds_before = time.monotonic(), state.step, state.seconds

    while True:
        # At the start of the loop, so that a run which was stopped before its validation resumes with it.
        if state.step in validation_steps and (state.validated_step != state.step or unscored_start(state)):
            paused = time.monotonic()
            checkpoints.save(engine, state)  # before scoring, so that an error in scoring loses no training
            checkpoints.record(state, is_best=score_validation(engine, validate, selection, state, log))
            refresh_page()
            engine.train()
            began += time.monotonic() - paused  # samples/s excludes validation
        if settings.patience is not None and state.stale >= settings.patience:
            log.print_line(f"{state.stale} validations without a better score: training ends at step {state.step}")
            return state
        if state.step >= total_steps:
            return state

        rate = rate_at(
            state.step,
            total=total_steps,
            peak=settings.learning_rate,
            floor=settings.min_learning_rate,
            warmup=settings.warmup_steps,
            schedule=settings.schedule,
            epoch_steps=order.studies / settings.batch_size,
        )
        set_rate(engine.optimizer, rate)
        # Tokens are counted before the first backward pass, since the loss of a step is the mean over all its target
        # tokens on all ranks. torch.full, unlike torch.tensor, does not wait for the GPU.
        window = [next(micro_batches) for _ in range(accumulation)]
        own_tokens = float(sum(batch.target_tokens for batch in window))
        tokens = dist.sum_over_ranks(torch.full((), own_tokens, device=engine.device))
        losses = step_losses(engine, objective, window, Step(state.step, tokens, settings.batch_size))
        for index, batch in enumerate(window):
            seed_micro_batch(settings.seed, state.step, index * dist.world() + dist.rank())
            engine.set_gradient_accumulation_boundary(index == accumulation - 1)
            loss_sum = engine(batch.to(engine.device), losses[index])
            watch.add(batch.ids, loss_sum)
            backward(engine, loss_sum, tokens)
        if not on_gpu:
            watch.refuse_not_finite()
        norm = step(engine)
        watch.add_gradient([study for batch in window for study in batch.ids], norm)
        state.step += 1
        if checkpoints.average is not None:
            checkpoints.average.update(state.step)
        state.epoch = state.step * settings.batch_size / order.studies
        state.seconds = seconds_before + time.monotonic() - began

        if state.step % settings.log_every_steps == 0 or state.step == total_steps:
            watch.refuse_not_finite()
            log.step(
                StepRecord(
                    step=state.step,
                    epoch=round(state.epoch, 4),
                    loss=watch.mean_loss(tokens),
                    lr=rate,
                    grad_norm=norm.item(),
                    samples_per_s=(state.step - first_step) * settings.batch_size / (time.monotonic() - began),
                    seconds=round(state.seconds, 2),
                    peak_gib=round(peak_gib(engine.device), 4),
                    objective=mean_figures(objective, engine.device),
                )
            )
        log.done(state.step)
        watch.end_step()
        stopping = agreed_stop(stop, state.step, settings.log_every_steps, engine.device)
        if stopping or (settings.save_every_steps and state.step % settings.save_every_steps == 0):
            watch.refuse_not_finite()
            paused = time.monotonic()
            checkpoints.save(engine, state)
            began += time.monotonic() - paused
        if stopping:
            raise Stopped
        if state.step in validation_steps:
            watch.refuse_not_finite()


def step_losses(engine: Engine, objective: Objective, window: Sequence[Batch], step: Step) -> Sequence[StepLoss | None]:
    """The loss of each micro-batch."""
    with whole_weights(engine) if objective.generates else nullcontext():
        return objective.losses(engine.module, window, step)


def mean_figures(objective: Objective, device: torch.device) -> dict[str, float]:
    """The numbers of the objective about the last step, as a mean over ranks."""
    own = objective.figures()
    if not own:
        return {}
    means = dist.sum_over_ranks(torch.tensor(list(own.values()), device=device)) / dist.world()
    return {name: round(value, 5) for name, value in zip(own, means.tolist(), strict=True)}


def unscored_start(state: TrainState) -> bool:
    """Whether nothing has been trained or scored yet: `validated_step` is 0 then."""
    return state.step == 0 and state.best_score is None


def score_validation(
    engine: Engine,
    validate: Callable[[], dict[str, float]] | None,
    selection: Callable[[dict[str, float]], float],
    state: TrainState,
    log: TrainLog,
) -> bool:
    """Score the validation split and record the result in `state`; returns whether it is the best so far."""
    if validate is None:
        state.validated_step = state.step
        return True
    engine.eval()
    scores = validate()
    score, state.validated_step = selection(scores), state.step
    is_best = state.best_score is None or score > state.best_score
    if is_best:
        state.best_score, state.best_step, state.stale = score, state.step, 0
    else:
        state.stale += 1
    log.validation(ValidationRecord(state.step, round(state.epoch, 4), "val", scores, selection=score, best=is_best))
    return is_best


def validation_steps(*, studies: int, batch_size: int, every_epochs: float, total_steps: int) -> set[int]:
    """The steps after which the validation split is scored: every `every_epochs` epochs, and the last.

    A run with trainer.start adds step 0.
    """
    if every_epochs * studies <= batch_size:
        return set(range(1, total_steps + 1))  # as often as there are steps
    count = math.floor(total_steps * batch_size / studies / every_epochs)
    steps = {math.ceil(round(k * every_epochs * studies / batch_size, 6)) for k in range(1, count + 1)}
    return {step for step in steps if step <= total_steps} | {total_steps}


def seed_micro_batch(seed: int, step: int, number: int) -> None:
    """Seed the dropout of a micro-batch from (seed, step, its number in the step over all ranks) only.

    So a resumed run needs no stored random state, and any number of ranks draws the same dropout.
    """
    state = np.random.SeedSequence([seed, step, number]).generate_state(1, np.uint64)[0]
    seed_torch(int(state) >> 1)


def agreed_stop(stop: StopRequest, step: int, every: int, device: torch.device) -> bool:
    """Whether all ranks stop after this step; several ranks agree on it only every `every` steps, to save time."""
    if dist.world() == 1:
        return stop.requested
    return step % every == 0 and dist.any_rank(stop.requested, device)


class LossWatch:
    """Losses and gradient norms that are not checked yet. They are checked together, so that the GPU rarely waits."""

    def __init__(self) -> None:
        self.losses: list[tuple[Sequence[str], torch.Tensor]] = []
        self.gradients: list[tuple[Sequence[str], torch.Tensor]] = []
        self.step_losses: list[torch.Tensor] = []

    def add(self, ids: Sequence[str], loss_sum: torch.Tensor) -> None:
        self.losses.append((ids, loss_sum.detach()))
        self.step_losses.append(loss_sum.detach())

    def add_gradient(self, ids: Sequence[str], norm: torch.Tensor) -> None:
        self.gradients.append((ids, norm))

    def end_step(self) -> None:
        self.step_losses = []

    def mean_loss(self, tokens: torch.Tensor) -> float:
        """The loss of this step in nats per target token, over all ranks."""
        return float(dist.sum_over_ranks(torch.stack(self.step_losses).sum()) / tokens)

    def refuse_not_finite(self) -> None:
        """Raise UserError naming the studies of micro-batches and steps whose loss or gradient norm is not finite."""
        losses, gradients, self.losses, self.gradients = self.losses, self.gradients, [], []
        for what, values in (("loss", losses), ("gradient", gradients)):
            finite = torch.isfinite(torch.stack([value for _, value in values])).tolist() if values else []
            bad = [study for (ids, _), good in zip(values, finite, strict=True) if not good for study in ids]
            if bad:
                raise UserError(
                    f"the {what} is not finite on the studies {', '.join(bad)}: check their images and reports, or "
                    "lower trainer.learning_rate. Earlier checkpoints are intact"
                )
