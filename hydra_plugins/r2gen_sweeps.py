"""R2Gen's sweeper and launchers. Hydra accepts plugins in this package only; r2gen/sweeps/ does the work.

Hydra imports this file in every command, so what only a sweep needs is imported inside functions. The folder has no
__init__.py: hydra_plugins is a namespace that several packages share.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from r2gen.cli.command_line import refuse
from r2gen.config.secrets import refuse_secret_words, refuse_secrets
from r2gen.errors import UserError, shown
from r2gen.launch.rank_process import end_early

if TYPE_CHECKING:
    from r2gen.sweeps.slots import Slots
    from r2gen.sweeps.sweep import Sweep


def check_whole(option: str, value: object, *, least: int) -> None:
    """Raise UserError unless the value of one of Hydra's options, which have no types, is a whole number >= `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{option}={shown(value)}: give a whole number of at least {least}")


class R2GenSweeper(Sweeper):
    """What both sweepers share. `params` are overrides from a sweep file, KEY to value or list of values."""

    launcher: R2GenLauncher

    def __init__(self, params: Mapping[str, Any] | None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        end_early()  # a sweep computes in other commands
        self.base, self.loader = config, hydra_context.config_loader
        stored: Any = OmegaConf.to_container(config)  # what multirun.yaml keeps
        refuse_secrets(stored, os.environ)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, R2GenLauncher):
            raise UserError("hydra/launcher: choose gpus or slurm, which run each job in processes of its own")
        self.launcher = launcher

    def parse(self, arguments: Sequence[str]) -> list[Override]:
        """The overrides of the sweep file and of the command line, which take precedence."""
        params: Any = OmegaConf.to_container(self.params) if OmegaConf.is_config(self.params) else self.params or {}
        if not isinstance(params, dict) or any(isinstance(value, dict) for value in params.values()):
            raise UserError(f"hydra.sweeper.params={shown(params)}: write KEY: VALUE, with values as in a command")
        words = [f"{key}={'null' if value is None else value}" for key, value in params.items()]
        refuse_secret_words(words, os.environ)
        refuse([*words, "-m"])
        overrides = OverridesParser.create(config_loader=self.loader).parse_overrides([*words, *arguments])
        # Once more, as Hydra reads the words: a secret may have been quoted.
        refuse_secret_words(
            [f"{key}={value}" for override in overrides for key, value in _values(override)], os.environ
        )
        return overrides


class GridSweeper(R2GenSweeper):
    """hydra/sweeper=grid: a job for each combination of values."""

    def sweep(self, arguments: list[str]) -> Any:
        batch = combinations(self.parse(arguments))
        if not batch:
            raise UserError("this sweep has no job: a range(...) or glob(...) in the command matches nothing")
        self.launcher.launch(batch, initial_job_idx=0)
        raise SystemExit(self.launcher.end())


class OptunaSweeper(R2GenSweeper):
    """hydra/sweeper=optuna: a search, in which Optuna suggests the values of each batch of jobs.

    hydra-optuna-sweeper 1.3.0 is not used: it needs Optuna < 3, which fails on a storage in a file, and cannot prune.
    """

    def __init__(
        self,
        *,
        params: Mapping[str, Any] | None,
        n_trials: int,
        batch: int,
        random_trials: int,
        prune_after: int | None,
        seed: int,
    ) -> None:
        super().__init__(params)
        self.n_trials, self.batch, self.seed = n_trials, batch, seed
        self.random_trials, self.prune_after = random_trials, prune_after

    def sweep(self, arguments: list[str]) -> Any:
        from r2gen.sweeps.cells import compose_cell
        from r2gen.sweeps.search import Search, Space

        self._check_counts()
        space = Space.of(self.parse(arguments))
        if "task=compose" in space.fixed:
            print("\n".join(f"{name} in {distribution}" for name, distribution in space.varied.items()))
            return
        sweep = self.launcher.sweep()
        first = compose_cell([*space.fixed, *space.first()], sweep.compose)
        if first.refusal is not None and not first.skipped:
            raise UserError(first.refusal)  # a mistake in the space, by which every trial would fail
        search = Search(
            sweep.open().path,
            space,
            n_trials=self.n_trials,
            batch=self.batch,
            seed=self.seed,
            random_trials=self.random_trials,
            prune_after=self.prune_after,
        )
        search.begin(space.defaults(self.loader.load_sweep_config(self.base, space.fixed)))
        sweep.pruner = search.prune_reason
        while batch := search.next_batch():
            jobs = [job.return_value for job in self.launcher.launch(batch, initial_job_idx=search.count_ended())]
            if not search.record(jobs):
                break
        print(f"\n{search.result()}", flush=True)
        raise SystemExit(self.launcher.end())

    def _check_counts(self) -> None:
        check_whole("hydra.sweeper.n_trials", self.n_trials, least=1)
        check_whole("hydra.sweeper.batch", self.batch, least=1)
        check_whole("hydra.sweeper.random_trials", self.random_trials, least=0)
        check_whole("hydra.sweeper.prune_after", self.prune_after or 0, least=0)
        check_whole("hydra.sweeper.seed", self.seed, least=0)


def _values(override: Override) -> Iterator[tuple[str, str]]:
    """The key with each of its values, as Hydra reads them from the word."""
    if not override.is_sweep_override():
        yield override.get_key_element(), str(override.value())
    elif override.is_discrete_sweep():
        for value in override.sweep_iterator(transformer=lambda value: str(getattr(value, "text", value))):
            yield override.get_key_element(), str(value)


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job. Of two overrides of one key the later one counts."""
    values: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
        else:
            raise UserError(f"{override.input_line}: only a search has intervals; add hydra/sweeper=optuna")
    return [list(job) for job in itertools.product(*([f"{key}={value}" for value in values[key]] for key in values))]


class R2GenLauncher(Launcher):
    """Runs each job as a command of its own. A sweeper calls `launch` for each batch, and `end` once."""

    def __init__(self, counts: Mapping[str, Any]) -> None:
        self.open: Sweep | None = None
        self.counts = counts

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        for name, value in self.counts.items():
            if value is not None:
                check_whole(f"hydra.launcher.{name}", value, least=1)
        self.config, self.loader = config, hydra_context.config_loader

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run a batch. Each return value is the job's record in sweep.json."""
        jobs = self.sweep().run(job_overrides, initial_job_idx, self.slots)
        return [JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=job) for job in jobs]

    def end(self) -> int:
        """Print the sweep's table, write its page, and return the exit status."""
        return self.sweep().end()

    def slots(self) -> Slots:
        raise NotImplementedError

    def sweep(self) -> Sweep:
        from r2gen.sweeps.sweep import Sweep

        if self.open is None:
            self.open = Sweep(self.config, lambda overrides: self.loader.load_sweep_config(self.config, overrides))
        return self.open


class GpusLauncher(R2GenLauncher):
    """hydra/launcher=gpus: this machine."""

    def __init__(self, n_jobs: int | None, gpus_per_job: int | None) -> None:
        super().__init__({"n_jobs": n_jobs, "gpus_per_job": gpus_per_job})
        self.n_jobs, self.gpus_per_job = n_jobs, gpus_per_job

    def slots(self) -> Slots:
        from r2gen.sweeps.leases import machine_leases
        from r2gen.sweeps.slots import LocalSlots

        return LocalSlots(machine_leases(), n_jobs=self.n_jobs, gpus_per_job=self.gpus_per_job)


class SlurmLauncher(R2GenLauncher):
    """hydra/launcher=slurm: a cluster's queue, by submitit."""

    def __init__(self, cluster: str, n_jobs: int | None, options: DictConfig) -> None:
        super().__init__({"n_jobs": n_jobs})
        self.cluster, self.n_jobs, self.options = cluster, n_jobs, options

    def slots(self) -> Slots:
        from r2gen.sweeps.slurm import SlurmSlots

        options = OmegaConf.to_container(self.options)
        assert isinstance(options, dict)
        return SlurmSlots(
            self.sweep().folder.path / "slurm",
            cluster=self.cluster,
            n_jobs=self.n_jobs,
            options={str(name): value for name, value in options.items()},
        )
