"""Slots in a SLURM cluster's queue, by submitit. A preempted job saves a checkpoint and is queued again.

`cluster: local` takes the same path without SLURM, to try it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gen.config.root import python_path
from r2gen.config.schema import Config
from r2gen.errors import DEFECT, Code, UserError
from r2gen.ranks.stop import die_with_parent
from r2gen.runs.files import append, new_file
from r2gen.sweeps.slots import RunningJob, job_environment

WARNING = signal.SIGUSR2  # submitit asks SLURM to send it 90 s before the end, and takes it for a preemption
GRACE_S = 75  # for the last checkpoint, of the 90 s between SLURM's warning and its kill


class Submitted:
    """The function that runs on the node: it runs the job's command. submitit calls `checkpoint` on a preemption."""

    def __init__(self, command: Sequence[str], log: Path, folder: Path) -> None:
        self.command, self.log, self.folder = list(command), log, folder
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=job_environment(self.log),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=_leave_warning_to_parent,
            )
        while self.process.poll() is None:  # not wait(), which holds a lock that checkpoint() needs
            time.sleep(0.2)
        return self.process.returncode  # also after scancel's SIGTERM: only the warning queues the job again

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            _wait_for(self.process.pid, GRACE_S)  # if it takes longer, the job resumes from an earlier checkpoint
        return DelayedSubmission(Submitted(self.command, self.log, self.folder))


def _leave_warning_to_parent() -> None:
    """Ignore the warning, which SLURM sends to every process of the job: unhandled, it would end them unsaved."""
    signal.signal(WARNING, signal.SIG_IGN)
    die_with_parent()


def _wait_for(pid: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.1)


class SlurmJob:
    """A submitted job. It does not end with the sweep's command."""

    def __init__(self, job: Any) -> None:
        self.job, self.gpus, self.queue_id = job, list[str](), str(job.job_id)

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception as error:  # submitit raises for a job that was cancelled, killed, or never ran
            line = f"\nerror: SLURM job {self.job.job_id}: {str(error).strip().splitlines()[0]}\n"
            append(Path(self.job.submission().function.log), line.encode())
            return -signal.SIGKILL if self.job.state == "OUT_OF_MEMORY" else DEFECT

    def stop(self) -> None:
        """Do nothing: Pool leaves such a job in its queue."""


class SlurmSlots:
    """SLURM's queue, with at most `n_jobs` jobs in it (null: all)."""

    def __init__(self, folder: Path, *, cluster: str, n_jobs: int | None, options: dict[str, Any]) -> None:
        try:
            import submitit  # the extra `slurm`
        except ImportError as error:
            raise UserError(
                "hydra/launcher=slurm needs submitit: pip install -e '.[slurm]'", code=Code.PACKAGE_MISSING
            ) from error
        self.n_jobs, self.submitit, self.cluster, self.folder = n_jobs, submitit, cluster, folder
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self.executor.update_parameters(**{"name": "r2gen", **options})
        except (RuntimeError, ValueError, NameError) as error:
            raise UserError(f"hydra/launcher=slurm: {error}") from error

    def start(self, config: Config, command: Sequence[str], log: Path, *, running: int) -> RunningJob | None:
        if self.n_jobs is not None and running >= self.n_jobs:
            return None
        trainer = config.trainer
        self.executor.update_parameters(gpus_per_node=trainer.devices if trainer.device != "cpu" else 0)
        os.environ["PYTHONPATH"] = python_path()
        new_file(log).close()
        return SlurmJob(self.executor.submit(Submitted(command, log, Path.cwd())))

    def adopt(self, queue_id: str) -> RunningJob | None:
        if self.cluster != "slurm":
            return None
        job: Any = self.submitit.SlurmJob(folder=self.folder, job_id=queue_id)
        ended = job.done(force_check=True) or job.state == "UNKNOWN"  # SLURM has forgotten a job that ended long ago
        return None if ended else SlurmJob(job)
