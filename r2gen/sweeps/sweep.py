"""A sweep, from its jobs' overrides to its table: some jobs are done, skipped or refused, and a pool runs the others.

hydra_plugins/r2gen_sweeps.py calls it for Hydra.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from r2gen.cli.command_line import command_words
from r2gen.config.overrides import as_passed
from r2gen.config.plain import canonical
from r2gen.config.read import to_plain
from r2gen.errors import DONE, STOPPED, printable
from r2gen.runs.files import check_folder, write_whole
from r2gen.runs.identity import PROCESS_ONLY, differences
from r2gen.runs.provenance import now
from r2gen.sweeps.cells import Cell, Compose, compose_cells, is_trained, state_line
from r2gen.sweeps.pool import Pool, Pruner, exit_status, never_prune
from r2gen.sweeps.record import OURS, JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.results import write_results
from r2gen.sweeps.slots import Slots
from r2gen.sweeps.view import View, labels

# Overrides of Hydra that are for the sweep and not for its jobs.
SWEEP_ONLY = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.mode")
MOST_NAMES = 4  # of options in the name of a sweep


class Sweep:
    """The jobs of one sweep, run in one batch or, for a search, in several: each depends on the results so far."""

    def __init__(self, base: DictConfig, compose: Compose) -> None:
        self.compose = compose
        self.folder = SweepFolder(sweep_dir(base))
        self.shared = [override for override in _overrides(base, "hydra") if not override.startswith(SWEEP_ONLY)]
        self.multirun = OmegaConf.to_yaml(base)
        self.record = SweepRecord(
            name=name_of(base),
            command=shlex.join(["python", "run.py", *command_words()]),
            overrides=as_passed(_overrides(base, "task")),
            started=now(),
        )
        self.before: dict[tuple[str, ...], JobRecord] = {}  # of an earlier command, by overrides
        self.is_open = False
        self.pruner: Pruner = never_prune

    def run(self, batch: Sequence[Sequence[str]], first: int, slots: Callable[[], Slots]) -> list[JobRecord]:
        """Run each job of a batch to its end. `first` is the number of the batch's first job."""
        if _is_dry_run(batch):
            _print_states(batch, self.compose)
            return []
        self.check()
        cells = dict(enumerate(compose_cells(batch, self.compose), first))
        self.open()
        jobs = [self._job(number, cell) for number, cell in cells.items()]
        self.record.jobs = [job for job in self.record.jobs if job.number < first] + jobs
        refuse_shared_folders(jobs, cells)
        self.folder.write(self.record)
        view = View()
        Pool(
            self.folder, self.record, cells, slots=slots(), shared=self.shared, show=view.show, pruner=self.pruner
        ).run()
        self.record.finished = now() if exit_status(self.record.jobs) != STOPPED else None
        self.folder.write(self.record)
        view.show(self.record, last=True)
        return jobs

    def end(self) -> int:
        """Print and write the table of scores, write the page, and return the sweep's exit status."""
        if not self.is_open:
            return DONE
        print(f"\n{printable(write_results(self.folder, self.record))}", flush=True)
        return exit_status(self.record.jobs)

    def check(self) -> None:
        """Raise UserError where the folder cannot be used, before the jobs are composed. Makes nothing."""
        if not self.is_open:
            check_folder(self.folder.path, option="hydra.sweep.dir", known_by=self.folder.file.name, ours=OURS)
            if self.folder.path.exists():
                self.folder.check_usable()
        os.environ["R2GEN_SWEEP"] = str(self.folder.path)  # by which conf/logger/wandb.yaml groups the jobs

    def open(self) -> SweepFolder:
        """Make or take the folder, once, and read what an earlier command did in it."""
        if self.is_open:
            return self.folder
        self.is_open = True
        self.folder.create()
        self.folder.lock()
        if self.folder.exists():
            before = self.folder.read()
            self.record.started = before.started
            self.record.jobs = before.jobs
            self.before = {tuple(job.overrides): job for job in before.jobs}
        write_whole(self.folder.path / "multirun.yaml", self.multirun)
        print(f"sweep {self.record.name}: {self.folder.path}", flush=True)
        return self.folder

    def _job(self, number: int, cell: Cell) -> JobRecord:
        job = JobRecord(
            number, cell.overrides, cell.choices, cell.task, str(cell.run_dir) if cell.run_dir else None, cell.identity
        )
        before = self.before.get(tuple(cell.overrides))
        if before is not None and before.identity != cell.identity:
            before = None  # an earlier command had another configuration under the same overrides
        if before is not None:
            job.seconds, job.started, job.log, job.gpus = before.seconds, before.started, before.log, before.gpus
            job.queue_id = before.queue_id if before.state == "running" else None
        if cell.refusal is not None:
            job.set("skipped" if cell.skipped else "failed", " ".join(cell.refusal.split()))
        elif before is not None and before.state == "pruned":
            job.set("pruned", before.reason)
        elif is_trained(cell) or _was_done(cell, before):
            job.set("done")
            if before is not None:
                job.reason, job.finished = before.reason if before.state == "done" else None, before.finished
        return job


def _was_done(cell: Cell, before: JobRecord | None) -> bool:
    """Whether a job other than a training is done. Only the sweep's record says so; a training's run folder does."""
    was_done = before is not None and before.state == "done"
    return was_done and cell.task != "train" and cell.config is not None and not cell.config.fresh


def _is_dry_run(batch: Sequence[Sequence[str]]) -> bool:
    return all("task=compose" in overrides for overrides in batch)


def _print_states(batch: Sequence[Sequence[str]], compose: Compose) -> None:
    """Print what each job would do, one line per job."""
    cells = compose_cells(batch, compose)
    jobs = [JobRecord(number, cell.overrides) for number, cell in enumerate(cells)]
    names = labels(jobs)
    wide = max(map(len, names.values()), default=0)
    for job, cell in zip(jobs, cells, strict=True):
        print(f"{names[job.number]:<{wide}}  {state_line(cell)}", flush=True)


def refuse_shared_folders(jobs: Sequence[JobRecord], cells: dict[int, Cell]) -> None:
    """Refuse jobs that would train the run of an earlier job for another number of epochs or steps."""
    owner: dict[str, JobRecord] = {}
    for job in jobs:
        if job.task != "train" or job.run_dir is None:
            continue
        first = owner.setdefault(job.run_dir, job)
        config, first_config = to_plain(cells[job.number].config), to_plain(cells[first.number].config)
        options = [change.partition(":")[0] for change in differences(first_config, config, PROCESS_ONLY)]
        if options:
            job.set(
                "failed",
                f"job {first.number} has the same run folder and another {', '.join(options)}, which only makes the "
                f"same run longer: give run_dir='outputs/NAME-${{{options[0]}}}'",
            )


def name_of(base: DictConfig) -> str:
    """The name of the sweep file, or of the options that vary, as in `lm-quant`; otherwise `jobs`."""
    file = base.hydra.runtime.choices.get("sweeps")
    if file:
        return str(file).replace("/", "-")
    overrides = OverridesParser.create().parse_overrides(_overrides(base, "task"))
    varied = [override.key_or_group for override in overrides if override.is_sweep_override()]
    return "-".join(re.split(r"[./]", option)[-1] for option in varied[:MOST_NAMES]) or "jobs"


def _overrides(base: DictConfig, kind: str) -> list[str]:
    """The overrides of the command line, for `task` or `hydra`. Each job resolves their `${...}` for itself."""
    overrides = OmegaConf.to_container(base.hydra.overrides[kind], resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def sweep_dir(base: DictConfig) -> Path:
    """hydra.sweep.dir if it is given, else a folder that follows from the command."""
    if base.hydra.sweep.dir:
        return Path(base.hydra.sweep.dir).absolute()
    digest = hashlib.sha256(canonical(sorted(_overrides(base, "task"))).encode()).hexdigest()[:8]
    earlier = Path(f"outputs/sweep-jobs-{digest}").absolute()  # as version 0.1 named it
    if SweepFolder(earlier).exists():
        return earlier
    return Path(f"outputs/sweep-{name_of(base)}-{digest}").absolute()
