"""A cell of a sweep: the configuration of one job, composed and checked before anything starts."""

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from r2gen.cli.hydra_errors import in_words
from r2gen.config.compose import our_choices, without_hydra
from r2gen.config.overrides import as_passed
from r2gen.config.plain import canonical
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.config.secrets import SecretError, refuse_secrets
from r2gen.errors import Code, UserError
from r2gen.launch.new_run import RunLocation, is_done, locate
from r2gen.launch.paths import with_absolute_paths
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import weights_hashes
from r2gen.runs.requested import requested

CELLS_PER_PROCESS = 4  # fewer are composed faster without another process
Compose = Callable[[list[str]], DictConfig]  # Hydra's overrides to the configuration, with its own node `hydra`


@dataclass(frozen=True)
class Cell:
    """What one job would do. With a `refusal` it cannot start; `skipped` says that a rule forbids it."""

    overrides: list[str]  # as they were passed
    for_hydra: list[str]  # as Hydra's sweeper gives them
    choices: dict[str, str | None] = field(default_factory=dict)
    config: Config | None = None  # None where the job is refused
    task: str | None = None
    run_dir: Path | None = None
    identity: str | None = None  # differs where the job would do something else
    refusal: str | None = None
    skipped: bool = False
    location: RunLocation | None = None  # of a training; where it is needs the digest of its data, read once


def compose_cells(batch: Sequence[Sequence[str]], compose: Compose) -> list[Cell]:
    """The cells of many jobs, composed on all cores, since one takes a tenth of a second."""
    processes = min(len(os.sched_getaffinity(0)), len(batch) // CELLS_PER_PROCESS)
    if processes < 2:
        return [compose_cell(overrides, compose) for overrides in batch]
    # Forked, so that Hydra is set up as it is here; no thread has been started that a fork would lose.
    with multiprocessing.get_context("fork").Pool(processes, _prepare_process, (compose,)) as pool:
        return pool.map(_compose_in_process, batch, chunksize=1)


_compose: list[Compose] = []  # in a process of the pool


def _prepare_process(compose: Compose) -> None:
    # The command's own handler would raise while the process holds the pool's lock, and the others would wait for ever.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _compose.append(compose)


def _compose_in_process(overrides: Sequence[str]) -> Cell:
    return compose_cell(overrides, _compose[0])


def compose_cell(overrides: Sequence[str], compose: Compose) -> Cell:
    """The cell of a job's overrides, as Hydra's sweeper gives them. A mistake in them is its refusal.

    Raises SecretError for a token or password, which the record of the sweep would keep.
    """
    passed, given = as_passed(overrides), list(overrides)
    choices: dict[str, str | None] = {}
    task = None
    try:
        node = compose(given)
        HydraConfig.instance().set_config(node)  # for ${hydra:runtime.choices.lm}
        task = str(OmegaConf.select(node, "task"))
        choices = our_choices(node.hydra.runtime.choices)
        composed = without_hydra(node)
        refuse_secrets(composed.plain, os.environ)
        config = requested(composed, passed)
        if config.trainer.nodes > 1:
            raise UserError(
                f"trainer.nodes={config.trainer.nodes}: a launcher gives each job of a sweep GPUs of "
                "one machine; run this job alone, without -m (docs/clusters.md)",
                code=Code.INCOMPATIBLE,
            )
        return cell_of(config, overrides=passed, for_hydra=given)
    except SecretError:
        raise
    except Exception as error:
        skipped = isinstance(error, UserError) and error.code is Code.INCOMPATIBLE
        return Cell(passed, given, choices, task=task, refusal=in_words(error), skipped=skipped)


def cell_of(config: Config, *, overrides: list[str], for_hydra: list[str]) -> Cell:
    """The cell of a checked configuration. Raises UserError where its data does not exist."""
    config = with_absolute_paths(config)
    location = locate(config) if config.task in ("train", "compose") else None
    run_dir, identity = (location.run_dir, location.identity) if location is not None else _work_on_a_run(config)
    return Cell(
        overrides, for_hydra, config.choices, config, config.task, run_dir, identity=identity, location=location
    )


def _work_on_a_run(config: Config) -> tuple[Path | None, str]:
    """The run folder and the identity of a task that stores nothing but its results.

    It runs again where an option, or its run, has changed.
    """
    plain = {key: value for key, value in to_plain(config).items() if key not in ("choices", "logger")}
    run_dir = config.folder if config.run_dir is not None else None
    made_on = RunFolder(run_dir).last() if run_dir is not None else None
    digest = canonical([plain, made_on, weights_hashes(config)])
    return run_dir, hashlib.sha256(digest.encode()).hexdigest()[:16]


def is_trained(cell: Cell) -> bool:
    """Whether the cell's training is finished, so that the same command would only show its table."""
    if cell.task != "train" or cell.config is None or cell.location is None:
        return False
    try:
        return is_done(cell.config, cell.location)
    except UserError:
        return False  # its own process will say what is wrong


def state_line(cell: Cell) -> str:
    """What a command would do with the cell, as task=compose prints it."""
    if cell.refusal is not None:
        return f"{'skipped' if cell.skipped else 'failed'}: {' '.join(cell.refusal.split())}"
    if cell.location is None or cell.config is None:
        return f"task={cell.task}"
    try:
        state = "finished" if is_done(cell.config, cell.location) else "unfinished"
    except UserError:
        state = "holds another run"
    run_dir = cell.location.run_dir
    return f"{_from_here(run_dir)} ({state if RunFolder(run_dir).exists() else 'new'})"


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
