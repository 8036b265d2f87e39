"""The processes of a job, one a rank: started, waited for, and stopped together. Imports no torch."""

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

from r2gen.config.compose import ROOT
from r2gen.config.schema import Config
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.launch import machines
from r2gen.ranks.ports import free_port
from r2gen.ranks.stop import die_with_parent

# Waiting threads soon yield: libgomp lets them spin. Beside another busy process a step then takes longer: 1.4 times in
# benchmarks/threads.py, 20 times seen with the default job's model.
SPIN_COUNT = "2000"

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
RANK_GIB = 0.5  # of a process with torch and its libraries, before it has a model


def refuse_too_many(devices: int) -> None:
    """Raise UserError where the processes alone would take all memory, and with it other people's."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if devices * RANK_GIB > memory_gib:
        raise UserError(
            f"trainer.devices={devices} needs some {devices * RANK_GIB:.0f} GiB of memory for its "
            f"processes alone, and this machine has {memory_gib:.0f}: give fewer"
        )


def rank_environment(config: Config) -> dict[str, str]:
    """What every rank finds in its environment besides the user's."""
    devices = config.trainer.devices
    return {
        "HF_HUB_OFFLINE": "0" if config.hub == "online" else "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),  # no C++ frames where a rank is lost
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices))),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT),
    }


def run_ranks(config: Config, job_file: Path, lock: int) -> tuple[int, str | None]:
    """Start one process a rank, pass signals on; gives the worst exit status and, where only we know it, the reason."""
    settings, devices = rank_environment(config), config.trainer.devices
    command = [sys.executable, "-m", "r2gen.tasks.worker", str(job_file)]
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    port = free_port()
    if several := config.trainer.nodes > 1:
        command = machines.launcher_command(
            config.trainer, command, settings=settings | {"PYTHONPATH": python_path}, port=port
        )
        print(f"$ {shlex.join(command)}", flush=True)
    else:
        shown = ["python", *command[1:]] if devices == 1 else ["torchrun", f"--nproc-per-node={devices}", *command[1:]]
        print(f"$ {' '.join(f'{key}={value}' for key, value in settings.items())} {shlex.join(shown)}", flush=True)
    with Forward() as forward:
        if several:
            forward.to(subprocess.Popen(command, pass_fds=(lock,), start_new_session=True))  # its ranks end with it
        for rank in range(0 if several else devices):
            places = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": devices,
                "LOCAL_WORLD_SIZE": devices,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            environment = {
                **os.environ,
                **settings,
                "PYTHONPATH": python_path,
                **{key: str(value) for key, value in places.items()},
            }
            forward.to(
                subprocess.Popen(
                    command,
                    env=environment,
                    pass_fds=(lock,),
                    start_new_session=True,
                    preexec_fn=functools.partial(die_with_parent, os.getpid()),
                )
            )
        return _wait(forward.ranks)


def _wait(ranks: list[subprocess.Popen[bytes]], *, grace_s: float = 10) -> tuple[int, str | None]:
    """Wait for all ranks; once one has failed, the others get `grace_s`."""
    deadline, ended = None, set[int]()  # ended by us
    while any(rank.poll() is None for rank in ranks):
        failed = any(rank.returncode not in (None, DONE, STOPPED) for rank in ranks)
        if failed and deadline is None:
            deadline = time.monotonic() + grace_s
        if deadline and time.monotonic() > deadline:
            for number, rank in enumerate(ranks):
                if rank.poll() is None:
                    ended.add(number)
                    rank.kill()
        time.sleep(0.05)
    left = (-signal.SIGTERM, -signal.SIGUSR1)  # signals that we passed on
    why = next(
        (
            _killed(number, -rank.returncode)
            for number, rank in enumerate(ranks)
            if rank.returncode < 0 and rank.returncode not in left and number not in ended
        ),
        None,
    )
    if why is not None:
        print(f"error: {why}", file=sys.stderr, flush=True)
    # A rank that named the fix comes first. One that a signal we passed on ended was still starting: nothing to save.
    codes = {_status(rank.returncode) for number, rank in enumerate(ranks) if number not in ended}
    return next(code for code in (FIXABLE, DEFECT, STOPPED, DONE) if code in codes), why


def _killed(rank: int, number: int) -> str:
    if number != signal.SIGKILL:
        return f"rank {rank} was ended by signal {number} ({signal.strsignal(number)}), a defect, not a mistake"
    return (
        f"rank {rank} was killed by signal 9, most often because the machine's memory ran out (`dmesg` or the "
        "scheduler says so): take more memory, or lower trainer.micro_batch_size (a step sees as many studies), "
        "trainer.workers or trainer.film_cache_mib; the same command goes on from the last checkpoint"
    )


def _status(returncode: int) -> int:
    if returncode in (-signal.SIGTERM, -signal.SIGUSR1):
        return STOPPED
    if returncode == -signal.SIGKILL:
        return FIXABLE
    return returncode if returncode in (DONE, FIXABLE, STOPPED) else DEFECT


def leave_on_signals() -> None:
    """Before any rank runs there is nothing to save: a signal ends the command at once, with STOPPED."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(STOPPED)

    for number in STOPPING:
        signal.signal(number, leave)


class Forward:
    """While open, the signals that stop a job go to its ranks, each as often as it came, also to one started later."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.came: list[int] = []
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            self.before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def to(self, rank: subprocess.Popen[bytes]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self.ranks.append(rank)
        for number in self.came:
            rank.send_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        told = signal.SIGTERM if number == signal.SIGINT else number
        self.came.append(told)
        for rank in self.ranks:
            if rank.poll() is None:
                rank.send_signal(told)
