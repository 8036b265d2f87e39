"""The processes of a job, one per rank: started, handed the job, waited for, and stopped together."""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from r2gen.config.root import python_path
from r2gen.config.schema import Config
from r2gen.config.trainer import TrainerConfig
from r2gen.errors import UserError
from r2gen.launch import machines, supervision
from r2gen.launch.rank_process import (
    WORKER,
    RankOptions,
    RankProcess,
    end,
    end_early,
    rank_environment,
    start_rank,
    take_early,
)
from r2gen.ranks.handover import hand_over
from r2gen.ranks.ports import free_port
from r2gen.ranks.stop import STOPPING, stop_signals
from r2gen.runs.failure import Failure

RANK_GIB = 0.5  # memory of a process that has imported torch and built nothing


def refuse_too_many(devices: int) -> None:
    """Raise UserError if the bare processes would take all memory of the machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if devices * RANK_GIB > memory_gib:
        raise UserError(
            f"trainer.devices={devices} needs some {devices * RANK_GIB:.0f} GiB of memory for its "
            f"processes alone, and this machine has {memory_gib:.0f} GiB. Give fewer."
        )


class Ranks:
    """The ranks of a job. Those on this machine end with the `with` block.

    `start` may come long before `run`: the ranks import their packages, silently, while the command checks images.
    """

    def __init__(self, config: Config) -> None:
        self.config, trainer = config, config.trainer
        self._environment = rank_environment(devices=trainer.devices, nodes=trainer.nodes, hub=config.hub)
        self._ranks: list[RankProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._ranks)

    def start(self) -> None:
        """Start the ranks. A second call does nothing, and neither does a job on several machines, before `run`."""
        trainer = self.config.trainer
        if self._ranks:
            return
        if trainer.nodes > 1:
            end_early()
            return
        options = RankOptions(trainer.devices, self._environment, uses_gpu=trainer.device != "cpu")
        self._ranks += take_early(options)
        for rank in range(len(self._ranks), trainer.devices):
            self._ranks.append(start_rank(rank, options))

    def run(self, job_file: Path, lock: int) -> tuple[int, Failure | None]:
        """Hand over the job, pass signals on and wait. `lock` is the open file that holds the run folder's lock.

        Returns the worst exit status and, if a signal ended a rank, that failure: such a rank could not report it.
        """
        trainer, worker = self.config.trainer, [*WORKER, str(job_file)]
        self.start()
        with Forward() as forward, _exchange_folder(trainer) as exchange:
            if trainer.nodes > 1:
                forward.to(self._launcher(worker, lock))
            elif self.config.verbose:
                _print_command(worker, self._environment, devices=trainer.devices)
            for rank in self._ranks:
                forward.to(rank.process)
                hand_over(rank.connection, job_file, lock, exchange=exchange)
            return supervision.wait(forward.ranks, timeout_s=trainer.timeout_s)

    def _launcher(self, worker: list[str], lock: int) -> "subprocess.Popen[bytes]":
        """torch's launcher of several machines, with which its ranks end."""
        settings = self._environment | {"PYTHONPATH": python_path()}
        command = machines.launcher_command(self.config.trainer, worker, settings=settings, port=free_port())
        if self.config.verbose:
            print(f"$ {shlex.join(command)}", flush=True)
        return subprocess.Popen(command, pass_fds=(lock,), start_new_session=True)


def _print_command(worker: list[str], settings: dict[str, str], *, devices: int) -> None:
    """Print a command that a user could give to start the same ranks."""
    program = ["python"] if devices == 1 else ["torchrun", f"--nproc-per-node={devices}"]
    assignments = " ".join(f"{key}={value}" for key, value in settings.items())
    print(f"$ {assignments} {shlex.join([*program, *worker[1:]])}", flush=True)


@contextmanager
def _exchange_folder(trainer: TrainerConfig) -> Iterator[str]:
    """The folder through which several ranks on this machine find each other; empty if there are none."""
    if trainer.nodes > 1 or trainer.devices == 1:
        yield ""
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="r2gen-ranks-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"trainer.devices={trainer.devices}: its processes need a folder for temporary files: {error.strerror}. "
            "Set TMPDIR to a folder that is writable"
        ) from error
    with folder as name:
        yield name


class Forward:
    """While open, passes the signals that stop a job on to its ranks, also to a rank that is started after a signal."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.received: list[int] = []
        self.handlers: dict[int, Any] = {}  # before

    def __enter__(self) -> Self:
        for number in stop_signals():
            self.handlers[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def to(self, rank: subprocess.Popen[bytes]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self.ranks.append(rank)
        for number in self.received:
            rank.send_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        number = signal.SIGTERM if number == signal.SIGINT else number
        self.received.append(number)
        for rank in self.ranks:
            if rank.poll() is None:
                rank.send_signal(number)
