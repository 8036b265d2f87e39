"""The command starts ranks before it hands them a job, passes signals on, and refuses more than fit in memory."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import composed
from smallest_run import ROOT

from r2gen.errors import FIXABLE, STOPPED, UserError
from r2gen.launch import processes
from r2gen.ranks.handover import JOB_FROM, hand_over


def test_a_signal_received_before_a_rank_starts_is_passed_on_to_it_once():
    with processes.Forward() as forward:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            forward.to(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        assert [rank.wait(20) for rank in forward.ranks] == [-signal.SIGTERM] * 2


def test_ranks_that_would_fill_the_memory_are_refused_before_they_start():
    processes.refuse_too_many(1)
    with pytest.raises(UserError, match=r"^trainer\.devices=1000000 needs some 500000 GiB of memory for its processes"):
        processes.refuse_too_many(1_000_000)


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A rank without a job, and the command's end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [sys.executable, "-m", "r2gen.tasks.worker", JOB_FROM, str(theirs.fileno())]
        with subprocess.Popen(
            words, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        ) as rank:
            theirs.close()
            yield rank, ours
            rank.kill()


def test_a_rank_whose_command_refuses_the_job_ends_without_a_word(started):
    rank, connection = started
    connection.close()
    assert rank.communicate(timeout=60) == (b"", b"")
    assert rank.returncode == STOPPED


def test_a_rank_says_what_it_imports_once_it_has_a_job_and_holds_its_lock(started, tmp_path: Path):
    rank, connection = started
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hand_over(connection, tmp_path / "no job.yaml", lock.fileno())
    with (tmp_path / ".lock").open("w") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    output, errors = rank.communicate(timeout=120)
    first, *later = output.decode().splitlines()
    assert first == "loading torch ..."
    assert all(line.startswith(first) for line in later)  # with the seconds so far, on a busy machine
    assert f"does not see {tmp_path / 'no job.yaml'}" in errors.decode()
    assert rank.returncode == FIXABLE


def test_a_rank_that_has_ended_is_handed_nothing():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        hand_over(ours, Path("job.yaml"), 0)


def test_ranks_end_with_the_command_that_hands_nothing_over():
    with processes.Ranks(composed("trainer.devices=2", "trainer.batch_size=16", "trainer.micro_batch_size=8")) as ranks:
        ranks.start()
        ranks.start()
        [first, second] = [rank.process for rank in ranks._ranks]
        assert first.poll() is None
    assert [first.poll(), second.poll()] == [-signal.SIGKILL] * 2
