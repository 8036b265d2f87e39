"""The command names a rank that died, hangs or is suspended, and ends the others in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED
from r2gen.launch import supervision

Starts = Callable[..., list["subprocess.Popen[bytes]"]]


@pytest.fixture
def start() -> Iterator[Starts]:
    """Starts a process per Python statement; they end with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start_all(*statements: str) -> list["subprocess.Popen[bytes]"]:
        for statement in statements:
            code = f"import os, sys, time; {statement}"
            processes.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL))
        return processes

    yield start_all
    for process in processes:
        process.kill()
        process.wait()


SLEEP = "time.sleep(100)"


def test_a_rank_that_was_killed_is_named_and_the_others_are_ended(start: Starts):
    ranks = start(SLEEP, SLEEP)
    ranks[1].send_signal(signal.SIGKILL)
    status, failure = supervision.wait(ranks, timeout_s=60, grace_s=0.1)
    assert failure is not None
    assert (status, failure.code) == (FIXABLE, "rank.killed")
    assert failure.message.startswith("rank 1 was killed by signal 9")
    assert ranks[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("suspended", [0, 1])
def test_a_rank_that_ends_is_seen_although_another_is_suspended(start: Starts, suspended: int):
    ranks = start(SLEEP, SLEEP)
    ranks[suspended].send_signal(signal.SIGSTOP)
    ranks[1 - suspended].send_signal(signal.SIGKILL)
    status, failure = supervision.wait(ranks, timeout_s=60, grace_s=0.1)
    assert failure is not None
    assert status == FIXABLE
    assert failure.message.startswith(f"rank {1 - suspended} was killed")


@pytest.mark.parametrize("suspended", [0, 1])
def test_a_suspended_rank_is_named_after_the_time_out(
    start: Starts, suspended: int, capsys: pytest.CaptureFixture[str]
):
    ranks = start(SLEEP, SLEEP)
    ranks[suspended].send_signal(signal.SIGSTOP)
    status, failure = supervision.wait(ranks, timeout_s=0.3)
    assert failure is not None
    assert (status, failure.code) == (FIXABLE, "rank.lost")
    expected = f"rank {suspended} of 2 did not respond within trainer.timeout_s=0.3 (suspended by a signal"
    assert failure.message.startswith(expected)
    assert capsys.readouterr().err == f"error: {failure.message}\n"
    assert [rank.returncode for rank in ranks] == [-signal.SIGKILL] * 2


def test_a_job_that_is_suspended_as_a_whole_may_continue(start: Starts):
    ranks = start("time.sleep(.5)", "time.sleep(.5)")
    pid = os.fork()
    if pid == 0:
        time.sleep(1)
        for rank in ranks:
            os.kill(rank.pid, signal.SIGCONT)
        os._exit(0)
    for rank in ranks:
        rank.send_signal(signal.SIGSTOP)
    assert supervision.wait(ranks, timeout_s=60) == (DONE, None)
    os.waitpid(pid, 0)


def test_a_rank_that_does_not_end_after_the_others_have_finished_is_named(start: Starts):
    status, failure = supervision.wait(start("pass", SLEEP, "pass"), timeout_s=0.3)
    assert failure is not None
    assert status == FIXABLE
    assert failure.message.startswith("rank 1 of 3 did not end within trainer.timeout_s=0.3 after the others")


def test_ranks_end_soon_after_one_that_was_stopped(start: Starts):
    """Such as one that a signal ended while it was still importing, and one that lost the connection to it."""
    assert supervision.wait(start("sys.exit(3)", SLEEP), timeout_s=60, grace_s=0.1) == (STOPPED, None)
    killed = start("os.kill(os.getpid(), 15)")[-1]  # nohup would make signal 1 do nothing
    killed.wait(timeout=60)  # however long its interpreter takes to start
    late = start("time.sleep(.5); sys.exit(2)")[-1]
    assert supervision.wait([killed, late], timeout_s=60) == (STOPPED, None)


@pytest.mark.parametrize(
    ("number", "status", "code", "message"),
    [
        (signal.SIGABRT, DEFECT, "rank.crashed", "ended by signal 6 (Aborted). This is a defect of R2Gen or"),
        (signal.SIGXCPU, FIXABLE, "rank.killed", "which another process or a limit (`ulimit -a`) sent. The same"),
    ],
)
def test_a_signal_from_outside_is_no_crash(
    start: Starts, number: int, status: int, code: str, message: str, capsys: pytest.CaptureFixture[str]
):
    ended, failure = supervision.wait(start(f"os.kill(os.getpid(), {number})"), timeout_s=60)
    assert failure is not None
    assert (ended, failure.code) == (status, code)
    assert failure.message.startswith("rank 0 was ended by signal")
    assert message in failure.message
    assert capsys.readouterr().err == f"error: {failure.message}\n"
