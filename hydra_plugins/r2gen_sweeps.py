"""R2Gen's sweeper and launchers, in the one package where Hydra accepts them; r2gen/sweeps/ does the work.

Every run of run.py imports this file, a sweep or not, so it imports the rest when a sweep begins. No __init__.py stands
beside it: hydra_plugins is a namespace that packages share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from r2gen.errors import UserError, shown

if TYPE_CHECKING:
    from r2gen.sweeps.places import Places
    from r2gen.sweeps.sweep import Sweep


def check_whole(option: str, value: object, *, least: int) -> None:
    """Raise UserError where an option of Hydra's, which knows no types, is no whole number from `least` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{option}={shown(value)}: give a whole number from {least} on")


class GridSweeper(BasicSweeper):
    """Every combination, as Hydra's own sweeper; a combination that does not compose is a row and not the end."""

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        if not isinstance(self.launcher, R2GenLauncher):
            raise UserError("hydra/launcher: only gpus and slurm give each job of a sweep processes of its own")
        (batch,) = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)
        if not batch:
            raise UserError("this sweep has no job: a range(...) or glob(...) that was typed has nothing in it")
        self.launcher.launch(batch, initial_job_idx=0)
        raise SystemExit(self.launcher.end())


class R2GenLauncher(Launcher):
    """Jobs as commands of their own. A sweeper calls `launch` for each batch, and `end` once."""

    def __init__(self, counts: Mapping[str, Any]) -> None:
        self.open: Sweep | None = None
        self.counts = counts

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        for name, value in self.counts.items():
            if value is not None:
                check_whole(f"hydra.launcher.{name}", value, least=1)
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Each job's row of sweep.json, as the return value."""
        sweep = self.sweep()
        jobs = sweep.run(job_overrides, initial_job_idx, self.places)
        return [JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=job) for job in jobs]

    def end(self) -> int:
        """Print the sweep's table, write its page, and give the exit status."""
        return self.sweep().end()

    def places(self) -> Places:
        raise NotImplementedError

    def sweep(self) -> Sweep:
        from r2gen.sweeps.sweep import Sweep  # not at the top: see above

        if self.open is None:
            loader, base = self.hydra_context.config_loader, self.config
            self.open = Sweep(base, lambda overrides: loader.load_sweep_config(base, overrides))
        return self.open


class GpusLauncher(R2GenLauncher):
    """hydra/launcher=gpus: this machine."""

    def __init__(self, n_jobs: int | None, gpus_per_job: int | None) -> None:
        super().__init__({"n_jobs": n_jobs, "gpus_per_job": gpus_per_job})
        self.n_jobs, self.gpus_per_job = n_jobs, gpus_per_job

    def places(self) -> Places:
        from r2gen.sweeps.leases import machine_leases
        from r2gen.sweeps.places import LocalPlaces

        return LocalPlaces(machine_leases(), n_jobs=self.n_jobs, gpus_per_job=self.gpus_per_job)


class SlurmLauncher(R2GenLauncher):
    """hydra/launcher=slurm: a cluster's queue, by submitit."""

    def __init__(self, cluster: str, n_jobs: int | None, options: DictConfig) -> None:
        super().__init__({"n_jobs": n_jobs})
        self.cluster, self.n_jobs, self.options = cluster, n_jobs, options

    def places(self) -> Places:
        from r2gen.sweeps.slurm import SlurmPlaces

        options = OmegaConf.to_container(self.options)
        assert isinstance(options, dict)
        return SlurmPlaces(
            self.sweep().folder.path / "slurm",
            cluster=self.cluster,
            n_jobs=self.n_jobs,
            options={str(name): value for name, value in options.items()},
        )
