"""Slots for a sweep's jobs on this machine: GPUs leased to a job, or a share of the CPU's cores."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.ranks.stop import die_with_parent
from r2gen.runs import failure
from r2gen.runs.files import new_file
from r2gen.sweeps.leases import Lease, Leases


class RunningJob(Protocol):
    """The processes of a started job, on this machine or elsewhere."""

    gpus: list[str]

    @property
    def queue_id(self) -> str | None:
        """The number by which a later command adopts the job; None if the job ends with this command."""

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while the job runs."""

    def stop(self) -> None:
        """Ask the job to save a checkpoint and exit with status 3; called a second time, to exit at once."""


class Slots(Protocol):
    """Where a launcher runs jobs."""

    def start(self, config: Config, command: Sequence[str], log: Path, *, running: int) -> RunningJob | None:
        """Start a job while `running` others run. None means that no slot is free now.

        Raises UserError if no slot can ever be large enough.
        """

    def adopt(self, queue_id: str) -> RunningJob | None:
        """The job that an earlier command started, if it has not ended."""


def failure_file(log: Path) -> Path:
    """The file in which the job of this log reports its failure."""
    return log.with_suffix(".failure.json")


def job_environment(log: Path) -> dict[str, str]:
    """The environment of a job that is about to start. Removes the failure that an earlier try reported."""
    failure_file(log).unlink(missing_ok=True)
    return {**os.environ, failure.VARIABLE: str(failure_file(log))}


class LocalJob:
    """A command on this machine. It ends with the sweep's command; the next one resumes it from its checkpoint."""

    queue_id: str | None = None

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str], lease: Lease) -> None:
        self.gpus = lease.names
        with new_file(log) as out:
            self.process = subprocess.Popen(
                command,
                env={**job_environment(log), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=lease.numbers,
                start_new_session=True,  # so that Ctrl-C reaches it only through the sweep
                preexec_fn=die_with_parent,
            )
        lease.leave_to_job()

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


class LocalSlots:
    """As many jobs at a time as there are free GPUs for, or `n_jobs` on the CPU (null: one)."""

    def __init__(self, leases: Leases, *, n_jobs: int | None, gpus_per_job: int | None) -> None:
        self.leases, self.n_jobs, self.gpus_per_job = leases, n_jobs, gpus_per_job

    def start(self, config: Config, command: Sequence[str], log: Path, *, running: int) -> RunningJob | None:
        gpus = self._gpus_for(config)
        if gpus > len(self.leases.gpus):
            raise UserError(f"the job needs {gpus} GPUs, and this machine has {len(self.leases.gpus)} for it")
        at_once = self._at_once(gpus)
        if running >= at_once:
            return None
        lease = self.leases.take(gpus) if gpus else Lease([], ExitStack(), ())
        if lease is None:
            return None
        threads = max(1, len(os.sched_getaffinity(0)) // at_once // config.trainer.devices)
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        if lease.names:
            environment |= {
                "CUDA_VISIBLE_DEVICES": ",".join(lease.names),
                "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            }
        return LocalJob(command, log, environment, lease)

    def adopt(self, queue_id: str) -> RunningJob | None:
        return None

    def _gpus_for(self, config: Config) -> int:
        if not self.leases.gpus or config.trainer.device == "cpu":
            return 0
        return self.gpus_per_job or config.trainer.devices

    def _at_once(self, gpus: int) -> int:
        most = len(self.leases.gpus) // gpus if gpus else 1
        return self.n_jobs if self.n_jobs is not None and (not gpus or self.n_jobs < most) else most
