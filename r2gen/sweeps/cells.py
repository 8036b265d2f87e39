"""A cell of a sweep: one job's configuration, composed and checked before anything starts. Imports no torch."""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from r2gen.cli import hydra_errors
from r2gen.config.overrides import as_typed
from r2gen.config.plain import canonical
from r2gen.errors import Code, UserError
from r2gen.launch import job
from r2gen.runs import provenance, requested
from r2gen.runs.folder import RunFolder

WORTH_A_PROCESS = 4  # cells
Compose = Callable[[list[str]], DictConfig]  # Hydra's overrides to the configuration, `hydra` in it


@dataclass(frozen=True)
class Cell:
    """What one job would do. Where `refusal` is set it cannot start, and `skipped` says whether a rule forbids it."""

    typed: list[str]
    for_hydra: list[str]
    choices: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    run_dir: Path | None = None
    mark: str | None = None  # differs where the job would do something else
    refusal: str | None = None
    skipped: bool = False


def compose_cells(batch: Sequence[Sequence[str]], compose: Compose) -> list[Cell]:
    """The cells of many jobs, on all cores: one takes a tenth of a second."""
    processes = min(len(os.sched_getaffinity(0)), len(batch) // WORTH_A_PROCESS)
    if processes < 2:
        return [compose_cell(overrides, compose) for overrides in batch]
    # Forked, so that Hydra stands there as it does here; no thread has been started that a fork would lose.
    with multiprocessing.get_context("fork").Pool(processes, _keep, (compose,)) as pool:
        return pool.map(_compose_kept, batch, chunksize=1)


_kept: list[Compose] = []  # in a process of the pool


def _keep(compose: Compose) -> None:
    # The command's own handler would raise in the middle of taking a job, and leave the others a lock nobody opens.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _kept.append(compose)


def _compose_kept(overrides: Sequence[str]) -> Cell:
    return compose_cell(overrides, _kept[0])


def compose_cell(overrides: Sequence[str], compose: Compose) -> Cell:
    """The cell of a job's overrides, as Hydra's sweeper gives them. A mistake in them is its refusal."""
    typed, given = as_typed(overrides), list(overrides)
    choices: dict[str, str] = {}
    task = None
    try:
        composed = compose(given)
        HydraConfig.instance().set_config(composed)  # for ${hydra:runtime.choices.lm}
        choices = requested.group_choices(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        task = str(OmegaConf.select(composed, "task"))
        plain = requested.configuration(composed, choices, typed)
        if plain["trainer"]["nodes"] > 1:
            raise UserError(
                f"trainer.nodes={plain['trainer']['nodes']}: a launcher gives each job of a sweep GPUs of "
                "one machine; type this run alone, without -m (docs/clusters.md)",
                code=Code.INCOMPATIBLE,
            )
        return cell_of(plain, typed=typed, for_hydra=given)
    except Exception as error:
        skipped = isinstance(error, UserError) and error.code is Code.INCOMPATIBLE
        return Cell(typed, given, choices, task=task, refusal=hydra_errors.in_words(error), skipped=skipped)


def cell_of(plain: dict[str, Any], *, typed: list[str], for_hydra: list[str]) -> Cell:
    """The cell of a checked configuration. Raises UserError where its data is not there."""
    plain = job.with_absolute_paths(plain)
    run_dir, mark = _place(plain)
    return Cell(typed, for_hydra, plain["choices"], plain, plain["task"], run_dir, mark)


def _place(plain: dict[str, Any]) -> tuple[Path | None, str]:
    if plain["task"] in ("train", "compose"):
        where = job.place(plain)
        return where.run_dir, where.mark
    # Of another task nothing is stored but its results: it is done again where anything typed, or its run, changed.
    asked = {key: value for key, value in plain.items() if key not in ("choices", "logger")}
    run_dir = Path(plain["run_dir"]) if plain["run_dir"] is not None else None
    made_on = RunFolder(run_dir).last() if run_dir is not None else None
    digest = canonical([asked, made_on, provenance.weights_hashes(plain)])
    return run_dir, hashlib.sha256(digest.encode()).hexdigest()[:16]


def is_trained(cell: Cell) -> bool:
    """Whether the cell's training is finished, so that the same command would only show its table."""
    if cell.task != "train" or cell.refusal is not None:
        return False
    try:
        return job.is_done(cell.config)
    except UserError:
        return False  # its own process will say what is wrong


def state_line(cell: Cell) -> str:
    """What a command would do with the cell, as task=compose says it."""
    if cell.refusal is not None:
        return f"{'skipped' if cell.skipped else 'failed'}: {' '.join(cell.refusal.split())}"
    if cell.run_dir is None:
        return f"task={cell.task}"
    try:
        state = "finished" if job.is_done(cell.config) else "unfinished"
    except UserError:
        state = "holds another run"
    return f"{_from_here(cell.run_dir)} ({state if RunFolder(cell.run_dir).exists() else 'new'})"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
