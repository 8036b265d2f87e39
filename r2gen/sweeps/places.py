"""Where a job's process tree runs on this machine: on GPUs leased to it, or on a share of the cores. No torch."""

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
from r2gen.sweeps.leases import Lease, Leases


class Place(Protocol):
    """A job's processes, wherever they are."""

    gpus: list[str]

    @property
    def queue_id(self) -> str | None:
        """Where they outlive the sweep's command, what another one finds them by."""

    def poll(self) -> int | None:
        """The exit status, negative for a signal, once it has ended."""

    def stop(self) -> None:
        """Ask for a checkpoint and an end with status 3; a second time, for an end at once."""


class Places(Protocol):
    """What a launcher brings."""

    def start(self, config: Config, command: Sequence[str], log: Path, *, running: int) -> Place | None:
        """Start a job beside so many others, or give None where there is no room now.

        Raises UserError where there never will be.
        """

    def adopt(self, queue_id: str) -> Place | None:
        """The job that an earlier command left there, if it has not ended."""


class LocalJob:
    """A command on this machine. It dies with the sweep: what it has saved, the next one goes on from."""

    queue_id: str | None = None

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str], lease: Lease) -> None:
        self.gpus = lease.names
        with log.open("wb") as out:
            self.process = subprocess.Popen(  # a session of its own: Ctrl-C reaches it once, through the sweep
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=lease.numbers,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        lease.leave_to_job()

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


class LocalPlaces:
    """As many jobs at once as free GPUs carry, or `n_jobs` on the CPU (null: one)."""

    def __init__(self, leases: Leases, *, n_jobs: int | None, gpus_per_job: int | None) -> None:
        self.leases, self.n_jobs, self.gpus_per_job = leases, n_jobs, gpus_per_job

    def start(self, config: Config, command: Sequence[str], log: Path, *, running: int) -> Place | None:
        gpus = self._gpus_for(config)
        if gpus > len(self.leases.gpus):
            raise UserError(f"it needs {gpus} GPUs, and this machine has {len(self.leases.gpus)} for it")
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

    def adopt(self, queue_id: str) -> Place | None:
        return None

    def _gpus_for(self, config: Config) -> int:
        if not self.leases.gpus or config.trainer.device == "cpu":
            return 0
        return self.gpus_per_job or int(config.trainer.devices)

    def _at_once(self, gpus: int) -> int:
        most = len(self.leases.gpus) // gpus if gpus else 1
        return self.n_jobs if self.n_jobs is not None and (not gpus or self.n_jobs < most) else most
