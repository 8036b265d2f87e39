"""The jobs of a sweep: each is a command in a process tree of its own, and as many run at a time as there are slots.

A failed job is an entry of the sweep and does not end it. A signal stops the jobs, which save checkpoints.
"""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from r2gen.config.overrides import option_name
from r2gen.config.root import ROOT
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, Code, UserError
from r2gen.ranks.stop import stop_signals
from r2gen.runs.failure import read_failure
from r2gen.runs.files import is_locked
from r2gen.runs.provenance import now
from r2gen.sweeps import retry
from r2gen.sweeps.cells import Cell, is_trained
from r2gen.sweeps.record import JobRecord, State, SweepFolder, SweepRecord
from r2gen.sweeps.slots import RunningJob, Slots, failure_file
from r2gen.sweeps.systems import differing, short_names

PAUSE_S = 0.2
MICRO_BATCH = "trainer.micro_batch_size"
STOPPED_STATUSES = (STOPPED, -signal.SIGTERM)
Pruner = Callable[[JobRecord], str | None]  # why a running job is to be pruned; None: it continues


def never_prune(job: JobRecord) -> str | None:
    return None


class Pool:
    """Runs the waiting jobs of `record`. `cells` holds the configuration of each by its number."""

    def __init__(
        self,
        folder: SweepFolder,
        record: SweepRecord,
        cells: dict[int, Cell],
        *,
        slots: Slots,
        shared: Sequence[str],
        show: Callable[[SweepRecord], None],
        pruner: Pruner = never_prune,
    ) -> None:
        self.folder, self.record, self.cells, self.slots = folder, record, cells, slots
        self.shared, self.show = shared, show  # Hydra's own overrides for every job; the live view
        self.pruner = pruner
        self.running: dict[int, tuple[RunningJob, float]] = {}  # with the time of its start, by job number
        self.pruned: dict[int, str] = {}  # running jobs that are being stopped, with the reason
        self.busy: set[int] = set()  # jobs whose run folder another command used
        self.stopping = False

    def run(self) -> None:
        """Return once every job has ended or, after a signal, once those that were running have."""
        handlers = {number: signal.signal(number, self._stop) for number in stop_signals()}
        try:
            while self.running or (self._waiting() and not self.stopping):
                if not self.stopping:
                    self._start_jobs()
                    self._prune_jobs()
                self._collect_ended()
                self.show(self.record)
                time.sleep(PAUSE_S)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _waiting(self) -> list[JobRecord]:
        return [job for job in self.record.jobs if job.state == "waiting" and job.number in self.cells]

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.stopping = True
        for job_number, (running, _began) in list(self.running.items()):
            if running.queue_id is not None:
                del self.running[job_number]  # it stays in its queue
            else:
                running.stop()

    def _start_jobs(self) -> None:
        for job in self._waiting():
            cell = self.cells[job.number]
            assert cell.config is not None  # a refused job does not wait
            if cell.run_dir is not None and is_locked(cell.run_dir / ".lock"):
                self.busy.add(job.number)
                continue
            if job.number in self.busy and is_trained(cell):
                self._set(job, "done", "trained by another command meanwhile")
                continue
            log = self.folder.log(job.number)
            try:
                started = self.slots.adopt(job.queue_id) if job.queue_id is not None else None
                started = started or self.slots.start(cell.config, self._command(job), log, running=len(self.running))
            except UserError as error:
                self._set(job, "failed", str(error))
                continue
            if started is None:
                return
            job.state, job.started, job.gpus, job.log = "running", now(), started.gpus, str(log)
            job.queue_id = started.queue_id
            job.tries += 1
            self.running[job.number] = started, time.monotonic()
            self._write()

    def _command(self, job: JobRecord) -> list[str]:
        given = self.cells[job.number].for_hydra
        if job.micro_batch_size is not None:
            given = [text for text in given if option_name(text) != MICRO_BATCH]
            given.append(f"{MICRO_BATCH}={job.micro_batch_size}")
        overrides = [*given, *self._shown_name(job), *self.shared, "hydra.mode=RUN"]
        return [sys.executable, str(ROOT / "run.py"), *overrides]

    def _shown_name(self, job: JobRecord) -> list[str]:
        """The overrides that name the job in W&B by the choices that differ."""
        config = self.cells[job.number].config
        if config is None or config.logger.arguments.get("name", "") is not None:  # another logger, or a name is set
            return []
        name = short_names(self.record.jobs)[self.record.jobs.index(job)]
        varied = ",".join(f"{option}:'{value}'" for option, value in differing(job, self.record.jobs).items())
        return [f"logger.name='{name}'", f"logger.varied={{{varied}}}"]

    def _prune_jobs(self) -> None:
        for number, (running, _) in self.running.items():
            why = None if number in self.pruned else self.pruner(self._job(number))
            if why is not None:
                self.pruned[number] = why
                running.stop()

    def _job(self, number: int) -> JobRecord:
        return next(job for job in self.record.jobs if job.number == number)

    def _collect_ended(self) -> None:
        for number, (running, began) in list(self.running.items()):
            status = running.poll()
            if status is None:
                continue
            del self.running[number]
            job = self._job(number)
            job.seconds = round(job.seconds + time.monotonic() - began, 1)
            job.status = status
            self._set_ended(job, status)
            self._write()

    def _set_ended(self, job: JobRecord, status: int) -> None:
        if status == DONE:
            job.set("done", job.reason)
        elif status in STOPPED_STATUSES and job.number in self.pruned:
            job.set("pruned", self.pruned[job.number])
        elif status in STOPPED_STATUSES:
            job.set("stopped", "by a signal; the same sweep resumes it from its last checkpoint")
        else:
            self._set_failed(job, status, self.folder.log(job.number))

    def _set_failed(self, job: JobRecord, status: int, log: Path) -> None:
        """Let the job wait, if another command uses its folder; try it once more, if memory ran out; else it failed."""
        failure, text = read_failure(failure_file(log)), retry.log_tail(log)
        if failure is not None and failure.code is Code.BUSY:
            job.state = "waiting"
            return
        config = self.cells[job.number].config
        assert config is not None  # it was started
        trainer = config.trainer
        smaller = retry.smaller_micro_batch(trainer)
        first_try = job.task == "train" and job.micro_batch_size is None
        if first_try and smaller and retry.may_fit_smaller(failure, status, text):
            job.state, job.micro_batch_size = "waiting", smaller
            job.reason = (
                f"out of memory with trainer.micro_batch_size={trainer.micro_batch_size}: tried again with "
                f"{smaller} and more accumulation (still {trainer.batch_size} studies per step)"
            )
            log.replace(log.with_suffix(".first.log"))
            return
        second_try = f"; {job.reason}" if job.micro_batch_size is not None else ""
        job.set("failed", f"{retry.last_error(text, status)} (log: {log}){second_try}")

    def _set(self, job: JobRecord, state: State, reason: str) -> None:
        job.set(state, reason)
        self._write()

    def _write(self) -> None:
        self.folder.write(self.record)


def exit_status(jobs: Sequence[JobRecord]) -> int:
    """The exit status of the sweep. Rules may skip some of the jobs, but not all."""
    states = {job.state for job in jobs}
    if states & {"stopped", "waiting", "running"}:
        return STOPPED
    if "failed" in states:
        return DEFECT if any(job.state == "failed" and job.status not in (None, FIXABLE) for job in jobs) else FIXABLE
    return FIXABLE if states == {"skipped"} else DONE
