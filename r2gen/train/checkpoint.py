"""Checkpoints of a run, written atomically: the trainable weights, and what resuming bit for bit needs.

    checkpoints/step-00000400/trainable.safetensors   fp32 masters of the trainable weights, and the statistics of
                                                      BatchNorm that move (trainer.ema: averaged)
                              state.json              step, epoch, best score, ranks and ZeRO stage
                              engine/                 DeepSpeed's own files (masters, moments, statistics), to resume
    checkpoints/last, best                            relative links

The state of random number generators is not stored: fit.py seeds every micro-batch.

The engine is imported by the methods that use it, since evaluations need no DeepSpeed, whose import takes .4 s or more.
"""

import hashlib
import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.runs.disk import out_of_disk
from r2gen.runs.files import PARTIAL, make_folder, point, remove, sync, sync_tree, write_whole
from r2gen.runs.folder import EXPORTED, no_checkpoint
from r2gen.runs.special_files import refuse_special
from r2gen.runs.untrusted import misfits, read_json, reason
from r2gen.vision.batch_norm import moving_statistics

if TYPE_CHECKING:
    from r2gen.train.averaging import WeightAverage
    from r2gen.train.engine import Engine

FORMAT = 1
LAST, BEST = "last", "best"
WEIGHTS, STATE = "trainable.safetensors", "state.json"
HEAD = "head."  # names of the weights that an objective trains besides the generator's


@dataclass
class TrainState:
    """The progress of a run: what state.json holds."""

    step: int = 0  # optimiser steps taken
    epoch: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    stale: int = 0  # validations since the best one
    validated_step: int = 0  # the step of the last validation
    world: int = 1  # number of ranks
    zero_stage: int = 0
    seconds: float = 0.0  # spent in training steps, summed over all commands
    format: int = FORMAT


class Checkpoints:
    """The checkpoints/ folder of a run."""

    def __init__(self, run_dir: Path, *, keep: int) -> None:
        self.folder = run_dir / "checkpoints"
        self.keep = keep
        self.average: WeightAverage | None = None  # stored in place of the weights themselves
        self.saved_step: int | None = None  # the step of `last`, once this object has written or read it

    def path(self, name: str) -> Path | None:
        """The checkpoint that `last` or `best` points to; None if there is none yet."""
        link = self.folder / name
        if link.is_symlink() and not link.exists():
            raise UserError(
                f"{link}: the checkpoint {link.readlink()} that it points to is missing. Point it to another "
                "checkpoint, or remove the link to start over"
            )
        return link.resolve() if link.is_dir() else None

    def best(self) -> Path:
        """The best checkpoint. Raises UserError if none has been written yet."""
        best = self.path(BEST)
        if best is None:
            raise no_checkpoint(self.folder.parent)
        return best

    def best_digest(self) -> str:
        """The name of the best checkpoint and a digest of its weights, for the header of predictions."""
        best = self.best()
        return f"{best.name} {_digest(best / WEIGHTS)}"

    def state(self, name: str) -> TrainState | None:
        """The state stored in `last` or `best`; None if there is none yet."""
        path = self.path(name)
        if path is None:
            return None
        try:
            return state_of(read_json(path / STATE), path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path / STATE} cannot be read: {reason(error)}. Point {self.folder / name} to an earlier checkpoint"
            ) from error

    def record(self, state: TrainState, *, is_best: bool) -> None:
        """Store the result of validating the checkpoint just saved; `best` points to it if it is the best.

        The link is written before the state, so that a kill between the two only repeats the validation.
        """
        if dist.is_first():
            target = self._target(state)
            if is_best:
                point(self.folder / BEST, target.name)
                sync(self.folder)
            write_whole(target / STATE, state_text(state))
            self._prune()
        dist.barrier()

    def save(self, engine: "Engine", state: TrainState) -> None:
        """Write the checkpoint of state.step on all ranks, unless it exists; afterwards `last` points to it."""
        if self.saved_step == state.step:
            return
        target = self._target(state)
        partial = self.folder / f"{PARTIAL}{target.name}"
        if dist.is_first():
            make_folder(self.folder)
            partial.mkdir()
        dist.barrier()
        tensors = self._tensors(engine)
        try:
            engine.save_checkpoint(str(partial), tag="engine", save_latest=False, exclude_frozen_parameters=True)
            if dist.is_first():
                write_files(partial, tensors, state)
            dist.barrier()
            if dist.is_first():
                sync_tree(partial)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)  # recording the error in run.json needs disk space
            need = checkpoint_bytes(sum(tensor.numel() for tensor in tensors.values()))
            full = out_of_disk(error, self.folder.parent, need_bytes=need)
            if full is None:
                raise
            raise full from error
        if dist.is_first():
            remove(target)
            partial.rename(target)
            point(self.folder / LAST, target.name)
            sync(self.folder)
            self._prune()
        self.saved_step = state.step
        dist.barrier()

    def write(self, tensors: Mapping[str, torch.Tensor], state: TrainState) -> None:
        """Write a checkpoint without optimiser state, as `last` and `best`. Called on one rank."""
        target = self._target(state)
        partial = self.folder / f"{PARTIAL}{target.name}"
        make_folder(self.folder)
        partial.mkdir()
        write_files(partial, tensors, state)
        sync_tree(partial)
        partial.rename(target)
        for link in (LAST, BEST):
            point(self.folder / link, target.name)
        sync(self.folder)

    def resume(self, engine: "Engine", *, zero_stage: int, weights_only: bool) -> TrainState:
        """Load `last` into the engine and return its state; without a checkpoint, return a new state."""
        from r2gen.train.engine import set_masters, whole_weights

        path, state = self.path(LAST), self.state(LAST)
        if path is None or state is None:
            return TrainState(world=dist.world(), zero_stage=zero_stage)
        if weights_only:
            with whole_weights(engine, changed=True):
                tensors = load_trainable(engine.module, path)
            set_masters(engine, tensors)
        elif (state.world, state.zero_stage) != (dist.world(), zero_stage):
            raise UserError(
                f"{path} was written by {state.world} rank(s) with ZeRO {state.zero_stage}, this run has "
                f"{dist.world()} with ZeRO {zero_stage}. Use the same as before, or pass trainer.resume=weights to "
                "continue from the weights with a new optimiser state"
            )
        else:
            _load_engine_strictly(engine, path)
        if self.average is not None:
            self.average.load(read_weights(path / WEIGHTS))
        state.world, state.zero_stage, self.saved_step = dist.world(), zero_stage, state.step
        return state

    def _tensors(self, engine: "Engine") -> dict[str, torch.Tensor]:
        """The weights and statistics that are validated. Those of training are in DeepSpeed's files as well."""
        from r2gen.train.engine import trainable_tensors

        if self.average is not None:
            return self.average.tensors()
        statistics = {name: statistic.cpu() for name, statistic in moving_statistics(engine.module).items()}
        return trainable_tensors(engine) | statistics

    def _target(self, state: TrainState) -> Path:
        return self.folder / f"step-{state.step:08d}"

    def _prune(self) -> None:
        best, last = self.path(BEST), self.path(LAST)
        # Checkpoints after `last` stay: they are of steps that are being trained again. The folder is resolved like the
        # links, since run_dir may itself contain a link.
        others = [
            path
            for path in sorted(self.folder.resolve().glob("step-*"))
            if path != best and last is not None and path <= last
        ]
        for path in others[: -self.keep]:
            shutil.rmtree(path)


def _load_engine_strictly(engine: "Engine", checkpoint: Path) -> None:
    """Load DeepSpeed's files of a checkpoint. Raises UserError if they are missing or damaged."""
    from r2gen.train.engine import load_engine

    fix = "Pass trainer.resume=weights to continue from the weights with a new optimiser state"
    try:
        loaded = load_engine(engine, checkpoint)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AssertionError, pickle.UnpicklingError) as error:
        reason = str(error).partition("WeightsUnpickler error:")[2] or str(error)
        raise UserError(f"{checkpoint}/engine cannot be read: {reason.strip()}\n{fix}") from error
    if not loaded:
        raise UserError(f"{checkpoint}/engine cannot be read. {fix}")


def write_files(folder: Path, tensors: Mapping[str, torch.Tensor], state: TrainState) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    (folder / STATE).write_text(state_text(state), encoding="utf-8")


def state_of(stored: Any, checkpoint: Path) -> TrainState:
    """The state that a state.json holds. Raises ValueError naming what is missing or has another type."""
    if not isinstance(stored, dict):
        raise ValueError("it does not hold names with values")
    if stored.get("format") != FORMAT:
        raise UserError(f"{checkpoint} has checkpoint format {stored.get('format')}, this version reads {FORMAT}")
    hints = get_type_hints(TrainState)
    wrong = [name for name in stored if name not in hints or next(misfits(stored[name], hints[name]), None) is not None]
    wrong += [name for name in ("step", "validated_step") if name not in wrong and stored.get(name, 0) < 0]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} has no valid value")
    return TrainState(**stored)


def state_text(state: TrainState) -> str:
    return json.dumps(asdict(state), indent=2) + "\n"


def load_trainable(model: nn.Module, checkpoint: Path) -> Mapping[str, torch.Tensor]:
    """Copy a checkpoint's weights into the model, whose trainable parameters they must match exactly.

    Returns them as stored, in fp32. Raises UserError naming the file if they do not match or cannot be read.
    """
    file = checkpoint / WEIGHTS
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    stored = trainable | moving_statistics(model)
    tensors = _read_matching(file, stored)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{file}: {name} holds NaN or infinite values. Point checkpoints/{checkpoint.name} to an earlier "
                "checkpoint"
            )
    _copy(tensors, stored)
    return tensors


def load_best(model: nn.Module, run_dir: Path) -> str:
    """Copy the best weights of a run, or those of an exported folder, into the model; returns their name and digest.

    Raises UserError if there are none, or if they do not match the model exactly.
    """
    exported = run_dir / EXPORTED
    if exported.is_file():
        parameters = exported_tensors(model)
        _copy(_read_matching(exported, parameters), parameters)
        return f"exported {_digest(exported)}"
    checkpoints = Checkpoints(run_dir, keep=1)
    load_trainable(model, checkpoints.best())
    return checkpoints.best_digest()


def exported_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a report generator without its language model, the mean and deviation of its images included."""
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("lm.")}
    normalisation = ("vision.mean_C", "vision.std_C")
    return tensors | {name: tensor for name, tensor in model.named_buffers() if name in normalisation}


def _read_matching(file: Path, expected: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The tensors of a file, which must have the expected names and shapes. Raises UserError naming the file."""
    tensors = read_weights(file)
    if not any(name.startswith(HEAD) for name in expected):
        tensors = without_head(tensors)
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise UserError(f"{file} is of another model: missing {missing[:5]}, unexpected {unexpected[:5]}")
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            raise UserError(
                f"{file} is of another model: {name} has the shape {list(tensors[name].shape)}, this model needs "
                f"{list(tensor.shape)}"
            )
    return tensors


def without_head(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the generator alone, without those of an objective."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)}


def read_weights(file: Path) -> Mapping[str, torch.Tensor]:
    refuse_special(file)
    try:
        tensors: Mapping[str, torch.Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    return tensors


def _copy(tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def checkpoint_bytes(trainable: int) -> int:
    """The size of one checkpoint at most: fp32 masters, the weights and two moments, 4 bytes each."""
    return trainable * 4 * 4
