"""A sweep from its jobs' overrides to its table: which are done, skipped or refused, and the pool for the others.

hydra_plugins/r2gen_sweeps.py calls it for Hydra. Imports no torch.
"""

import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from r2gen.config.overrides import as_passed
from r2gen.config.plain import canonical
from r2gen.config.read import to_plain
from r2gen.errors import DONE, STOPPED
from r2gen.runs.files import write_whole
from r2gen.runs.identity import PROCESS_ONLY, differences
from r2gen.runs.provenance import now
from r2gen.sweeps.cells import Cell, Compose, compose_cells, is_trained, state_line
from r2gen.sweeps.pool import Pool, Pruner, exit_status, never_prune
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.results import write_results
from r2gen.sweeps.slots import Slots
from r2gen.sweeps.view import View, labels

# Hydra's own overrides that are the sweep's and not its jobs'.
OF_SWEEP = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.mode")


class Sweep:
    """One sweep's jobs, run in one or more batches: a search gives the next batch once it knows the last."""

    def __init__(self, base: DictConfig, compose: Compose) -> None:
        self.compose = compose
        self.folder = SweepFolder(sweep_dir(base))
        self.shared = [text for text in _typed(base, "hydra") if not text.startswith(OF_SWEEP)]
        self.multirun = OmegaConf.to_yaml(base)
        self.record = SweepRecord(
            name=name_of(base),
            command=shlex.join(["python", "run.py", *as_passed(sys.argv[1:])]),
            overrides=as_passed(_typed(base, "task")),
            started=now(),
        )
        self.earlier: dict[tuple[str, ...], JobRecord] = {}
        self.is_open = False
        self.pruner: Pruner = never_prune

    def run(self, batch: Sequence[Sequence[str]], first: int, slots: Callable[[], Slots]) -> list[JobRecord]:
        """Bring each job of a batch to its end; `first` is the number of the batch's first job."""
        if _only_shown(batch, self.compose):
            return []
        self.open()
        cells = dict(enumerate(compose_cells(batch, self.compose), first))
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
        """Print the table of what is scored, write it and the page; gives the sweep's exit status."""
        if not self.is_open:
            return DONE
        print(f"\n{write_results(self.folder, self.record)}", flush=True)
        return exit_status(self.record.jobs)

    def open(self) -> SweepFolder:
        """Take the folder, once, and know what an earlier command did in it."""
        if self.is_open:
            return self.folder
        self.is_open = True
        self.folder.create()
        self.folder.lock()
        os.environ["R2GEN_SWEEP"] = str(self.folder.path)  # for the jobs: conf/logger/wandb.yaml groups them by it
        write_whole(self.folder.path / "multirun.yaml", self.multirun)
        if self.folder.exists():
            before = self.folder.read()
            self.record.started = before.started
            self.record.jobs = before.jobs
            self.earlier = {tuple(job.overrides): job for job in before.jobs}
        print(f"sweep {self.record.name}: {self.folder.path}", flush=True)
        return self.folder

    def _job(self, number: int, cell: Cell) -> JobRecord:
        job = JobRecord(
            number, cell.overrides, cell.choices, cell.task, str(cell.run_dir) if cell.run_dir else None, cell.identity
        )
        before = self.earlier.get(tuple(cell.overrides))
        if before is not None and before.mark == cell.identity:
            job.seconds, job.started, job.log, job.gpus = before.seconds, before.started, before.log, before.gpus
            job.queue_id = before.queue_id if before.state == "running" else None
        if cell.refusal is not None:
            job.set("skipped" if cell.skipped else "failed", " ".join(cell.refusal.split()))
        elif before is not None and before.state == "pruned" and before.mark == cell.identity:
            job.set("pruned", before.reason)
        elif is_trained(cell) or self._was_done(cell, before):
            job.set("done")
            if before is not None and before.mark == cell.identity:
                job.reason, job.finished = before.reason if before.state == "done" else None, before.finished
        return job

    def _was_done(self, cell: Cell, before: JobRecord | None) -> bool:
        """Of another task than training the record alone knows."""
        done = before is not None and before.state == "done" and before.mark == cell.identity
        return done and cell.task != "train" and cell.config is not None and not cell.config.fresh


def _only_shown(batch: Sequence[Sequence[str]], compose: Compose) -> bool:
    """task=compose: one line a job, and nothing is started or made."""
    if not all("task=compose" in overrides for overrides in batch):
        return False
    cells = compose_cells(batch, compose)
    jobs = [JobRecord(number, cell.overrides) for number, cell in enumerate(cells)]
    names = labels(jobs)
    wide = max(map(len, names.values()), default=0)
    for job, cell in zip(jobs, cells, strict=True):
        print(f"{names[job.number]:<{wide}}  {state_line(cell)}", flush=True)
    return True


def refuse_shared_folders(jobs: Sequence[JobRecord], cells: dict[int, Cell]) -> None:
    """Trainings of one folder are one run; where they ask for different lengths of it, the later ones are refused."""
    owner: dict[str, JobRecord] = {}
    for job in jobs:
        if job.task != "train" or job.run_dir is None:
            continue
        first = owner.setdefault(job.run_dir, job)
        one, other = (to_plain(cells[number].config) for number in (first.number, job.number))
        differ = [line.partition(":")[0] for line in differences(one, other, PROCESS_ONLY)]
        if differ:
            job.set(
                "failed",
                f"job {first.number} has the same run folder and another {', '.join(differ)} (more "
                f"epochs make one run longer): give run_dir='outputs/NAME-${{{differ[0]}}}'",
            )


def name_of(base: DictConfig) -> str:
    return str(base.hydra.runtime.choices.get("sweeps") or "jobs").replace("/", "-")


def _typed(base: DictConfig, kind: str) -> list[str]:
    """What was typed, with `${...}` as it is: each job resolves that for itself."""
    typed = OmegaConf.to_container(base.hydra.overrides[kind], resolve=False)
    assert isinstance(typed, list)
    return [str(text) for text in typed]


def sweep_dir(base: DictConfig) -> Path:
    """hydra.sweep.dir where it is given; else a folder that the same command finds again."""
    if base.hydra.sweep.dir:
        return Path(base.hydra.sweep.dir).absolute()
    typed = canonical(sorted(_typed(base, "task")))
    return Path(f"outputs/sweep-{name_of(base)}-{hashlib.sha256(typed.encode()).hexdigest()[:8]}").absolute()
