"""Checkpoints of a run: whole or not there, only what trains, and enough to go on bit for bit.

    checkpoints/step-00000400/trainable.safetensors   fp32 masters of what trains
                              state.json              step, epoch, best so far, ranks and ZeRO stage
                              engine/                 DeepSpeed's own files (moments), needed only to resume
    checkpoints/last, best                            relative links

Randomness needs no state: every micro-batch is seeded by itself, see fit.py.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from r2gen.errors import UserError
from r2gen.ranks import dist
from r2gen.runs.files import PARTIAL, write_whole
from r2gen.runs.folder import EXPORTED
from r2gen.runs.resources import out_of_disk
from r2gen.train.engine import load_engine, set_masters, trainable_tensors, whole_weights

FORMAT = 1
LAST, BEST = "last", "best"


@dataclass
class TrainState:
    """Where a run stands."""

    step: int = 0  # optimiser steps done
    epoch: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    stale: int = 0  # validations since the best one
    validated_step: int = 0  # the step of the last validation
    world: int = 1
    zero_stage: int = 0
    seconds: float = 0.0  # spent in training steps, over all starts
    format: int = FORMAT


class Checkpoints:
    """The checkpoints/ folder of a run."""

    def __init__(self, run_dir: Path, *, keep: int) -> None:
        self.folder = run_dir / "checkpoints"
        self.keep = keep
        self.saved_step: int | None = None  # what `last` points at, where this object wrote or read it

    def path(self, name: str) -> Path | None:
        """The checkpoint that `last` or `best` points at, None where there is none yet."""
        link = self.folder / name
        if link.is_symlink() and not link.exists():
            raise UserError(
                f"{link} points at {link.readlink()}, which is gone: let it point at a checkpoint that is "
                "there, or remove it to start over"
            )
        return link.resolve() if link.is_dir() else None

    def best(self) -> Path:
        """The best checkpoint. Raises UserError where none has been written yet."""
        best = self.path(BEST)
        if best is None:
            raise UserError(f"{self.folder.parent} has no checkpoint yet: train it first")
        return best

    def best_digest(self) -> str:
        """Its name and a hash of its weights, for the header of predictions."""
        best = self.best()
        with (best / "trainable.safetensors").open("rb") as weights:
            return f"{best.name} {hashlib.file_digest(weights, 'sha256').hexdigest()[:16]}"

    def state(self, name: str) -> TrainState | None:
        path = self.path(name)
        if path is None:
            return None
        try:
            stored = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise UserError(f"{path} has checkpoint format {stored['format']}, this version reads {FORMAT}")
            return TrainState(**stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}/state.json cannot be read: {error!r}; point {self.folder / name} at an earlier checkpoint"
            ) from error

    def record(self, state: TrainState, *, is_best: bool) -> None:
        """After the validation of the checkpoint just saved: let `best` point at it where it is, and keep its score.

        In this order, so that a kill between the two only repeats the validation.
        """
        if dist.is_first():
            target = self.folder / f"step-{state.step:08d}"
            if is_best:
                point(self.folder / BEST, target.name)
                sync(self.folder)
            write_whole(target / "state.json", state_text(state))
            self._prune()
        dist.barrier()

    def save(self, engine: Any, state: TrainState) -> None:
        """Write the checkpoint of state.step on all ranks, unless it was; afterwards `last` points at it."""
        if self.saved_step == state.step:
            return
        target = self.folder / f"step-{state.step:08d}"
        partial = self.folder / f"{PARTIAL}{target.name}"
        if dist.is_first():
            self.folder.mkdir(mode=0o700, exist_ok=True)
            partial.mkdir()
        dist.barrier()
        tensors = trainable_tensors(engine)
        try:
            engine.save_checkpoint(str(partial), tag="engine", save_latest=False, exclude_frozen_parameters=True)
            if dist.is_first():
                save_file(tensors, partial / "trainable.safetensors")
                (partial / "state.json").write_text(state_text(state), encoding="utf-8")
            dist.barrier()
            if dist.is_first():
                sync_tree(partial)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)  # its room is needed to say what happened
            need = checkpoint_bytes(sum(tensor.numel() for tensor in tensors.values()))
            full = out_of_disk(error, self.folder.parent, need_bytes=need)
            if full is None:
                raise
            raise full from error
        if dist.is_first():
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
            point(self.folder / LAST, target.name)
            sync(self.folder)
            self._prune()
        self.saved_step = state.step
        dist.barrier()

    def write(self, tensors: Mapping[str, torch.Tensor], state: TrainState) -> None:
        """A checkpoint of weights alone, made elsewhere, as `last` and `best`; called on one rank."""
        target = self.folder / f"step-{state.step:08d}"
        partial = self.folder / f"{PARTIAL}{target.name}"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        partial.mkdir()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "trainable.safetensors")
        (partial / "state.json").write_text(state_text(state), encoding="utf-8")
        sync_tree(partial)
        partial.rename(target)
        for link in (LAST, BEST):
            point(self.folder / link, target.name)
        sync(self.folder)

    def _prune(self) -> None:
        best = self.path(BEST)
        last = self.path(LAST)
        # What lies behind `last` is of a stretch that is trained anew: its turn to go comes when it has been passed.
        # Resolved as they are: a run_dir may lead through a link.
        others = [
            path
            for path in sorted(self.folder.resolve().glob("step-*"))
            if path != best and last is not None and path <= last
        ]
        for path in others[: -self.keep]:
            shutil.rmtree(path)

    def resume(self, engine: Any, *, zero_stage: int, weights_only: bool) -> TrainState:
        """Bring the engine to `last`; a fresh state where there is none."""
        path, state = self.path(LAST), self.state(LAST)
        if path is None or state is None:
            return TrainState(world=dist.world(), zero_stage=zero_stage)
        if weights_only:
            with whole_weights(engine, changed=True):
                tensors = load_trainable(engine.module, path)
            set_masters(engine, tensors)
        elif (state.world, state.zero_stage) != (dist.world(), zero_stage):
            raise UserError(
                f"{path} was written by {state.world} rank(s) under ZeRO {state.zero_stage}, this run has "
                f"{dist.world()} under ZeRO {zero_stage}: use the same again, or trainer.resume=weights to go on with "
                "the weights and fresh optimiser moments"
            )
        else:
            way_out = "trainer.resume=weights goes on without it"
            try:
                loaded = load_engine(engine, path)
            except (
                OSError,
                EOFError,
                RuntimeError,
                ValueError,
                KeyError,
                AssertionError,
                pickle.UnpicklingError,
            ) as error:
                said = str(error).partition("WeightsUnpickler error:")[2] or str(error)
                raise UserError(f"{path}/engine cannot be read: {said.strip()}\n{way_out}") from error
            if not loaded:
                raise UserError(f"{path}/engine cannot be read: {way_out}")
        state.world, state.zero_stage, self.saved_step = dist.world(), zero_stage, state.step
        return state


def state_text(state: TrainState) -> str:
    return json.dumps(asdict(state), indent=2) + "\n"


def load_trainable(model: nn.Module, checkpoint: Path) -> Mapping[str, torch.Tensor]:
    """Put a checkpoint's weights into the model: exactly what trains, nothing missing, nothing left over.

    Gives them as stored, in fp32. Raises UserError naming the file where they do not fit or cannot be read.
    """
    file = checkpoint / "trainable.safetensors"
    try:
        tensors: Mapping[str, torch.Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    expected = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise UserError(f"{file} is of another model: missing {missing[:5]}, unexpected {unexpected[:5]}")
    for name, parameter in expected.items():
        if parameter.shape != tensors[name].shape:
            raise UserError(
                f"{file} is of another model: {name} is {list(tensors[name].shape)} there, {list(parameter.shape)} here"
            )
        if not tensors[name].isfinite().all():
            raise UserError(
                f"{file}: {name} holds values that are no numbers: point checkpoints/{checkpoint.name} at "
                "an earlier checkpoint"
            )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])
    return tensors


def load_best(model: nn.Module, run_dir: Path) -> str:
    """Put the best weights of a run, or those of an exported folder, into the model; gives their name and hash.

    Raises UserError where there are none, or they do not fit exactly.
    """
    exported = run_dir / EXPORTED
    if not exported.is_file():
        checkpoints = Checkpoints(run_dir, keep=1)
        load_trainable(model, checkpoints.best())
        return checkpoints.best_digest()
    try:
        tensors = load_file(exported)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{exported} cannot be read: {error}") from error
    wanted = exported_tensors(model)
    missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    wrong = [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if missing or unexpected or wrong:
        raise UserError(
            f"{exported} is of another model: missing {missing[:5]}, unexpected {unexpected[:5]}, of "
            f"another shape {sorted(wrong)[:5]}"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])
    with exported.open("rb") as weights:
        return f"exported {hashlib.file_digest(weights, 'sha256').hexdigest()[:16]}"


def exported_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """All of a report generator but its language model, with the mean and deviation that images are normalised with."""
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("lm.")}
    return kept | {name: tensor for name, tensor in model.named_buffers() if name in ("vision.mean_C", "vision.std_C")}


def checkpoint_bytes(trainable: int) -> int:
    """What one checkpoint takes: fp32 masters, the weights once more, two moments, all of 4 bytes at most."""
    return trainable * 4 * 4


def point(link: Path, name: str) -> None:
    """Let a relative link name something else, in one step."""
    temporary = link.with_name(PARTIAL + link.name)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync(path)
