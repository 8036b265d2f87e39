"""The jobs of a sweep, each a command of its own in a process tree of its own, as many at once as there are places.

Imports no torch. A job's failure is a row of the sweep and not its end; a signal stops the jobs, which save themselves.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from r2gen.config.compose import ROOT
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import now
from r2gen.sweeps import failure
from r2gen.sweeps.cells import Cell, is_trained
from r2gen.sweeps.places import Place, Places
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord

PAUSE_S = 0.2
Judge = Callable[[JobRecord], str | None]  # why a running job shall end early; None: it goes on
IN_USE = "in use by another command"  # what a run says whose folder is locked


class Pool:
    """Runs the jobs that `record` has waiting; `cells` has each by its number."""

    def __init__(
        self,
        folder: SweepFolder,
        record: SweepRecord,
        cells: dict[int, Cell],
        *,
        places: Places,
        shared: Sequence[str],
        show: Callable[[SweepRecord], None],
        judge: Judge | None = None,
    ) -> None:
        self.folder, self.record, self.cells, self.places = folder, record, cells, places
        self.shared, self.show = shared, show  # overrides of Hydra's own that every job gets; the live view
        self.judge = judge or runs_to_its_end
        self.running: dict[int, tuple[Place, float]] = {}
        self.pruned: dict[int, str] = {}  # running jobs that were asked to end, and why
        self.elsewhere: set[int] = set()  # jobs whose run folder another command had
        self.stopping = False

    def run(self) -> None:
        """Return once every job has ended, or once those that ran have, after a signal."""
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }
        try:
            while self.running or (self._waiting() and not self.stopping):
                if not self.stopping:
                    self._start_what_has_room()
                    self._end_what_is_hopeless()
                self._end_what_ended()
                self.show(self.record)
                time.sleep(PAUSE_S)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _waiting(self) -> list[JobRecord]:
        return [job for job in self.record.jobs if job.state == "waiting" and job.number in self.cells]

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.stopping = True
        for job_number, (place, _began) in list(self.running.items()):
            if place.queue_id is not None:
                del self.running[job_number]  # it stays in its queue
            else:
                place.stop()

    def _start_what_has_room(self) -> None:
        for job in self._waiting():
            cell = self.cells[job.number]
            assert cell.config is not None  # a refused job does not wait
            if cell.run_dir is not None and _is_locked(cell.run_dir):
                self.elsewhere.add(job.number)  # perhaps that command does all there is to do
                continue
            if job.number in self.elsewhere and is_trained(cell):
                job.set("done", "trained by another command meanwhile")
                self._write()
                continue
            log = self.folder.log(job.number)
            try:
                place = self.places.adopt(job.queue_id) if job.queue_id is not None else None
                place = place or self.places.start(cell.config, self._command(job), log, running=len(self.running))
            except UserError as error:
                job.set("failed", str(error))
                self._write()
                continue
            if place is None:
                return
            job.state, job.started, job.gpus, job.log = "running", now(), place.gpus, str(log)
            job.queue_id = place.queue_id
            job.tries += 1
            self.running[job.number] = place, time.monotonic()
            self._write()

    def _command(self, job: JobRecord) -> list[str]:
        micro_batch = [f"trainer.micro_batch_size={job.micro_batch_size}"] if job.micro_batch_size is not None else []
        given = [*self.cells[job.number].for_hydra, *micro_batch, *self.shared, "hydra.mode=RUN"]
        return [sys.executable, str(ROOT / "run.py"), *given]

    def _end_what_is_hopeless(self) -> None:
        for number, (place, _) in self.running.items():
            why = None if number in self.pruned else self.judge(self._job(number))
            if why is not None:
                self.pruned[number] = why
                place.stop()

    def _job(self, number: int) -> JobRecord:
        return next(job for job in self.record.jobs if job.number == number)

    def _end_what_ended(self) -> None:
        for number, (place, began) in list(self.running.items()):
            status = place.poll()
            if status is None:
                continue
            del self.running[number]
            job = self._job(number)
            job.seconds = round(job.seconds + time.monotonic() - began, 1)
            self._end(job, status)
            self._write()

    def _end(self, job: JobRecord, status: int) -> None:
        job.status = status
        if status == DONE:
            job.set("done", job.reason)
            return
        if status in (STOPPED, -signal.SIGTERM) and job.number in self.pruned:
            job.set("pruned", self.pruned[job.number])
            return
        if status in (STOPPED, -signal.SIGTERM):
            job.set("stopped", "by a signal; the same sweep goes on from its last checkpoint")
            return
        text = failure.tail_of(Path(job.log or ""))
        if status == FIXABLE and IN_USE in text:
            job.state = "waiting"
            return
        why = failure.last_error(text, status)
        config = self.cells[job.number].config
        assert config is not None  # it was started
        trainer = config.trainer
        smaller = failure.smaller_micro_batch(trainer)
        if failure.is_out_of_memory(text, status) and job.task == "train" and job.micro_batch_size is None and smaller:
            job.state, job.micro_batch_size = "waiting", smaller
            job.reason = (
                f"out of memory with trainer.micro_batch_size={trainer.micro_batch_size}: tried again "
                f"with {smaller}, and more accumulation (still {trainer.batch_size} a step)"
            )
            keep_log(Path(job.log or ""))
            return
        again = f"; {job.reason}" if job.micro_batch_size is not None else ""
        job.set("failed", f"{why}, {job.log}{again}")

    def _write(self) -> None:
        self.folder.write(self.record)


def runs_to_its_end(job: JobRecord) -> str | None:
    return None


def keep_log(log: Path) -> None:
    """The log of a first try stays beside that of the second."""
    shutil.move(log, log.with_suffix(".first.log"))


def _is_locked(run_dir: Path) -> bool:
    folder = RunFolder(run_dir)
    if not (run_dir / ".lock").is_file():
        return False
    try:
        folder.lock()
    except UserError:
        return True
    folder.unlock()
    return False


def exit_status(jobs: Sequence[JobRecord]) -> int:
    """That of the sweep: a stopped one goes on; a failed job is told; rules may skip some jobs, but not all."""
    states = {job.state for job in jobs}
    if states & {"stopped", "waiting", "running"}:
        return STOPPED
    if "failed" in states:
        return DEFECT if any(job.state == "failed" and job.status not in (None, FIXABLE) for job in jobs) else FIXABLE
    return FIXABLE if states == {"skipped"} else DONE
