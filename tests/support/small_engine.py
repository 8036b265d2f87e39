"""A DeepSpeed engine around a small model, and the settings of a short training loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from r2gen.data.dataset import StudyDataset
from r2gen.ranks.stop import StopRequest
from r2gen.train.checkpoint import Checkpoints, TrainState
from r2gen.train.engine import Engine, start_engine
from r2gen.train.fit import LoopSettings, fit
from r2gen.train.loggers import NoLogger, TrainLog
from r2gen.train.objectives.objective import PLAIN, Objective
from r2gen.train.optim import adamw

LOOP = LoopSettings(
    batch_size=8,
    micro_batch_size=4,
    learning_rate=1e-3,
    min_learning_rate=0.0,
    warmup_steps=2,
    schedule="constant",
    patience=None,
    workers=0,
    save_every_steps=None,
    log_every_steps=1,
    shuffle=True,
    seed=0,
)


def start_small_engine(
    model: nn.Module,
    *,
    batch_size: int,
    micro_batch_size: int,
    zero: int = 0,
    bf16: bool = False,
    gradient_clipping: float = 0.0,
    optimizer: torch.optim.Optimizer | None = None,
    learning_rate: float = 1e-3,
    whole: Sequence[nn.Module] = (),
    frozen_lm: nn.Module | None = None,
    divides: bool = True,
    **of_zero: Any,
) -> Engine:
    """An engine with AdamW, unless another optimiser is passed.

    ZeRO 3 shards even the smallest weights, and has room for two layers. `of_zero` are further options of it.
    """
    smallest = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0}
    zero_optimization = {"stage": zero} | (smallest if zero == 3 else {}) | of_zero
    return start_engine(
        model,
        optimizer or adamw(model, learning_rate=learning_rate, betas=(0.9, 0.999), weight_decay=0.01),
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        gradient_clipping=gradient_clipping,
        bf16=bf16,
        options={"zero_optimization": zero_optimization},
        whole=whole,
        frozen_lm=frozen_lm,
        divides=divides,
    )


def fit_small(
    engine: Engine,
    data: StudyDataset,
    folder: Path,
    total: int,
    *,
    at: set[int],
    validate: Callable[[], dict[str, float]] | None,
    checkpoints: Checkpoints,
    state: TrainState,
    stop: StopRequest | None = None,
    objective: Objective = PLAIN,
    **changes: Any,
) -> TrainState:
    """Train to step `total` with validations after the steps `at`, whose score is "quality". Changes are of LOOP."""
    return fit(
        engine,
        data,
        settings=replace(LOOP, **changes),
        total_steps=total,
        validation_steps=at,
        validate=validate,
        selection=lambda scores: scores["quality"],
        checkpoints=checkpoints,
        state=state,
        log=TrainLog(folder, state, total_steps=total, logger=NoLogger()),
        refresh_page=lambda: None,
        stop=stop or StopRequest(),
        objective=objective,
    )


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Of the weights of two models, which must have the same names."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two models have the same weights, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
