"""The processes of a job, one per rank: started, waited for, and stopped together."""

import functools
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Self

from r2gen.config.compose import python_path
from r2gen.config.schema import Config
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, Code, UserError
from r2gen.launch import machines
from r2gen.ranks.ports import free_port
from r2gen.ranks.stop import die_with_parent
from r2gen.runs.failure import Failure, report

# OpenMP (libgomp) threads spin while they wait. Next to another busy process that makes a step slower: 1.4 times in
# benchmarks/threads.py, up to 20 times for the default job's model. With this count they yield soon.
SPIN_COUNT = "2000"

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PASSED_ON = (-signal.SIGTERM, -signal.SIGUSR1)  # exit statuses of a rank that had no handler yet
RANK_GIB = 0.5  # memory of a process that has imported torch and built nothing


def refuse_too_many(devices: int) -> None:
    """Raise UserError if the bare processes would take all memory of the machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if devices * RANK_GIB > memory_gib:
        raise UserError(
            f"trainer.devices={devices} needs some {devices * RANK_GIB:.0f} GiB of memory for its "
            f"processes alone, and this machine has {memory_gib:.0f} GiB. Give fewer."
        )


def rank_environment(config: Config) -> dict[str, str]:
    """The environment variables that every rank gets in addition to the user's."""
    devices = config.trainer.devices
    return {
        "HF_HUB_OFFLINE": "0" if config.hub == "online" else "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),  # no C++ frames when a rank is lost
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices))),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT),
    }


def run_ranks(config: Config, job_file: Path, lock: int) -> tuple[int, Failure | None]:
    """Start one process per rank, pass signals on and wait. `lock` is the open file that holds the run folder's lock.

    Returns the worst exit status and, if a signal ended a rank, that failure: such a rank could not report it.
    """
    settings, trainer = rank_environment(config), config.trainer
    worker = [sys.executable, "-m", "r2gen.tasks.worker", str(job_file)]
    port = free_port()
    with Forward() as forward:
        if trainer.nodes > 1:
            command = machines.launcher_command(
                trainer, worker, settings=settings | {"PYTHONPATH": python_path()}, port=port
            )
            print(f"$ {shlex.join(command)}", flush=True)
            forward.to(subprocess.Popen(command, pass_fds=(lock,), start_new_session=True))  # its ranks end with it
        else:
            _print_command(worker, settings, devices=trainer.devices)
            environment = {**os.environ, **settings, "PYTHONPATH": python_path()}
            for rank in range(trainer.devices):
                placement = _placement(rank, world=trainer.devices, port=port)
                forward.to(_start_rank(worker, environment | placement, lock))
        return _wait(forward.ranks)


def _print_command(worker: list[str], settings: dict[str, str], *, devices: int) -> None:
    """Print a command that a user could give to start the same ranks."""
    program = ["python"] if devices == 1 else ["torchrun", f"--nproc-per-node={devices}"]
    assignments = " ".join(f"{key}={value}" for key, value in settings.items())
    print(f"$ {assignments} {shlex.join([*program, *worker[1:]])}", flush=True)


def _placement(rank: int, *, world: int, port: int) -> dict[str, str]:
    """The environment variables by which torch.distributed finds the other ranks of this machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _start_rank(worker: list[str], environment: dict[str, str], lock: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        worker,
        env=environment,
        pass_fds=(lock,),
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )


def _wait(ranks: list[subprocess.Popen[bytes]], *, grace_s: float = 10) -> tuple[int, Failure | None]:
    """Wait for all ranks. Once one has failed, the others are killed after `grace_s`."""
    deadline, killed_here = None, set[int]()
    while any(rank.poll() is None for rank in ranks):
        failed = any(rank.returncode not in (None, DONE, STOPPED) for rank in ranks)
        if failed and deadline is None:
            deadline = time.monotonic() + grace_s
        if deadline and time.monotonic() > deadline:
            for number, rank in enumerate(ranks):
                if rank.poll() is None:
                    killed_here.add(number)
                    rank.kill()
        time.sleep(0.05)
    ended = {number: rank.returncode for number, rank in enumerate(ranks) if number not in killed_here}
    signalled = [(rank, -code) for rank, code in ended.items() if code < 0 and code not in PASSED_ON]
    failure = _signalled(*signalled[0]) if signalled else None
    if failure is not None:
        report(failure)
        print(f"error: {failure.message}", file=sys.stderr, flush=True)
    # The status of a rank that named a fix comes first.
    statuses = {_status(code) for code in ended.values()}
    return next(status for status in (FIXABLE, DEFECT, STOPPED, DONE) if status in statuses), failure


def _signalled(rank: int, number: int) -> Failure:
    if number != signal.SIGKILL:
        return Failure(
            f"rank {rank} was ended by signal {number} ({signal.strsignal(number)}). This is a defect of R2Gen or of a "
            "library: please report it.",
            Code.RANK_CRASHED,
        )
    return Failure(
        f"rank {rank} was killed by signal 9, most often because the machine ran out of memory (`dmesg` or the "
        "scheduler's log shows it). Use more memory, or lower trainer.micro_batch_size (a step uses as many studies), "
        "trainer.workers or trainer.film_cache_mib; the same command then resumes from the last checkpoint.",
        Code.RANK_KILLED,
    )


def _status(returncode: int) -> int:
    if returncode in PASSED_ON:
        return STOPPED  # the rank was still starting: there was nothing to save
    if returncode == -signal.SIGKILL:
        return FIXABLE
    return returncode if returncode in (DONE, FIXABLE, STOPPED) else DEFECT


def leave_on_signals() -> None:
    """End the command at once, with STOPPED, on a signal that comes before any rank runs: there is nothing to save."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(STOPPED)

    for number in STOPPING:
        signal.signal(number, leave)


class Forward:
    """While open, passes the signals that stop a job on to its ranks, also to a rank that is started after a signal."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.received: list[int] = []
        self.handlers: dict[int, Any] = {}  # before

    def __enter__(self) -> Self:
        for number in STOPPING:
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
