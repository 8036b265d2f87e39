"""The process of one rank, which imports its packages before it has a job; also one that a command starts at once.

On a machine with a GPU, a command that seems to be a job of one rank starts it before it imports Hydra. If the job then
needs other ranks, this one is ended without a job.
"""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from r2gen.config.overrides import option_name
from r2gen.config.root import python_path
from r2gen.config.task_table import BY_NAME
from r2gen.ranks.exchange import loopback
from r2gen.ranks.handover import JOB_FROM, USE_GPU
from r2gen.ranks.stop import die_with_parent

# OpenMP (libgomp) threads spin while they wait. Next to another busy process that makes a step slower: 1.4 times in
# benchmarks/threads.py, up to 20 times for the default job's model. With this count they yield soon.
SPIN_COUNT = "2000"

KILLED_S = 4.0  # a process in an uninterruptible wait, such as for NFS, may not have ended by then
POLL_S = 0.05
Processes = Sequence["subprocess.Popen[bytes]"]

WORKER = (sys.executable, "-m", "r2gen.tasks.worker")
AS_ONE_RANK = {"trainer.devices": "1", "trainer.nodes": "1", "hub": "offline"}  # no rank starts early with others


@dataclass(frozen=True)
class RankOptions:
    """How the ranks of a job on this machine are started."""

    world: int
    environment: dict[str, str]  # in addition to the user's
    uses_gpu: bool


@dataclass(frozen=True)
class RankProcess:
    """A rank without a job, and the command's end of the connection through which it gets one."""

    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    options: RankOptions


_early: list[RankProcess] = []


def end(ranks: Sequence[RankProcess]) -> None:
    """End those of the ranks that still run."""
    kill([rank.process for rank in ranks if rank.process.poll() is None])
    for rank in ranks:
        rank.connection.close()


def kill(ranks: Processes) -> None:
    """Kill ranks, and wait until they have ended."""
    for rank in ranks:
        rank.kill()
    deadline = time.monotonic() + KILLED_S
    while any([rank.poll() is None for rank in ranks]) and time.monotonic() < deadline:  # noqa: C419  polls each
        time.sleep(POLL_S)


def rank_environment(*, devices: int, nodes: int, hub: str) -> dict[str, str]:
    """The environment variables that every rank gets in addition to the user's."""
    environment = {
        "HF_HUB_OFFLINE": "0" if hub == "online" else "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),  # no C++ frames when a rank is lost
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices))),
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPIN_COUNT),
    }
    if nodes == 1:  # gloo and NCCL would listen on the address of the machine's name
        environment |= {"GLOO_SOCKET_IFNAME": loopback(), "NCCL_SOCKET_IFNAME": loopback()}
    return environment


def start_rank(rank: int, options: RankOptions) -> RankProcess:
    """Start a rank of those on this machine."""
    ours, theirs = socket.socketpair()
    placement = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(options.world),
        "LOCAL_WORLD_SIZE": str(options.world),
    }
    with theirs:
        process = subprocess.Popen(
            [*WORKER, JOB_FROM, str(theirs.fileno()), *([USE_GPU] if options.uses_gpu else [])],
            env={**os.environ, **options.environment, "PYTHONPATH": python_path(), **placement},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            preexec_fn=functools.partial(_prepare, os.getpid()),
        )
    return RankProcess(process, ours, options)


def _prepare(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the rank handles it: Python would print a traceback


def start_early(words: Sequence[str]) -> None:
    """Start the rank of a command with these words, if it seems to be a job of one rank on a GPU."""
    if has_gpu() and is_one_rank(words):
        options = RankOptions(1, rank_environment(devices=1, nodes=1, hub="offline"), uses_gpu=True)
        with suppress(OSError):  # too many processes or files: the command says so when it starts its ranks
            _early.append(start_rank(0, options))


def take_early(options: RankOptions) -> list[RankProcess]:
    """The rank of `start_early`, if it was started like this; otherwise it ends."""
    if any(rank.options != options for rank in _early):
        end_early()
    taken = list(_early)  # also a rank that has failed to import its packages, which says so once it has the job
    _early.clear()
    return taken


def end_early() -> None:
    """End the rank of `start_early`, of which the command has no use."""
    end(_early)
    _early.clear()


def has_gpu() -> bool:
    """Whether this machine seems to have an NVIDIA GPU, without asking its driver."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def is_one_rank(words: Sequence[str]) -> bool:
    """Whether the words of a command seem to ask for a job of one rank that may use a GPU."""
    given = {option_name(word): word.partition("=")[2] for word in words}
    task = BY_NAME.get(given.get("task", "train"))
    mode = given.get("hydra.mode", "MULTIRUN" if "sweeps" in given else "RUN")
    return (
        not any(word.startswith("-") for word in words)
        and mode == "RUN"
        and task is not None
        and task.needs == "ranks"
        and all(given.get(name, value) == value for name, value in AS_ONE_RANK.items())
        and given.get("trainer.device") != "cpu"
    )
