"""Work in a forked process returns its result or its error, and never outlives the process that started it."""

import os
import signal
import time
from pathlib import Path

import pytest

from r2gen.errors import Code, UserError
from r2gen.ranks.forked import Forked


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_function_runs_in_another_process_and_its_result_comes_back() -> None:
    large = "x" * 2**20  # more than a pipe holds
    forked = Forked(lambda: (os.getpid(), large))
    pid, result = forked.result()
    assert pid != os.getpid()
    assert result == large
    assert not running(pid)


def test_its_error_is_raised_where_the_result_is_needed() -> None:
    def fail() -> None:
        raise UserError("image a.png does not exist", code=Code.DISK)

    with pytest.raises(UserError, match=r"image a\.png does not exist") as caught:
        Forked(fail).result()
    assert caught.value.code is Code.DISK
    assert "in fail" in str(caught.value.__cause__)  # the lines of the other process


def test_a_killed_process_is_named() -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match=r"was killed \(exit status -9\), most often because memory ran out") as caught:
        Forked(die).result()
    assert caught.value.code is Code.MEMORY_WORKERS


def test_a_signal_to_all_processes_does_not_end_it() -> None:
    def work() -> str:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        return "done"

    assert Forked(work).result() == "done"


def test_a_process_ends_before_its_large_result_is_read() -> None:
    forked = Forked(lambda: b"x" * 10_000_000)
    forked._process.join(timeout=60)
    assert forked._process.exitcode == 0
    assert len(forked.result()) == 10_000_000


def test_closing_ends_it() -> None:
    forked = Forked(lambda: time.sleep(600))
    pid = forked._process.pid
    assert pid is not None
    assert running(pid)
    forked.close()
    assert not running(pid)


def test_without_fork_the_function_runs_when_its_result_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    calls: list[int] = []
    forked = Forked(lambda: calls.append(1))
    assert not forked.ready()
    assert calls == []
    forked.result()
    forked.close()
    assert calls == [1]
