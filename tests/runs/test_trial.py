"""Work in a child process gives its result, or the reason why there is none, within its limits."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from r2gen.errors import Code, UserError
from r2gen.runs import trial


def refusal(why: str) -> UserError:
    return UserError(f"no result: {why}")


def refused() -> None:
    raise UserError("the fix", code=Code.WEIGHTS_MISSING)


def memory() -> None:
    bytearray(2**31)


def endless() -> None:
    while True:
        pass


def sleeping() -> None:
    time.sleep(1000)


def deep() -> None:
    deep()


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Panic(BaseException):
    """As Rust's panics, which are not an Exception."""


def panic() -> None:
    raise Panic("index\nout of range")


def much() -> str:
    return "x" * (trial.LARGEST_ANSWER + 1)


REASONS: list[tuple[Callable[[], Any], str]] = [
    (memory, "it needs more than 1024 MiB of memory"),
    (endless, "it takes more than 1 s of processor time"),
    (sleeping, "it does not end within 2 s"),
    (deep, "it is nested too deep"),
    (crash, "it ends by signal 9"),
    (panic, "index out of range"),
    (much, "its result is too large"),
    (lambda: 1 / 0, "division by zero"),
]


def test_the_result_is_that_of_the_work() -> None:
    assert trial.attempt(lambda: [[1, 2], "a\ud800"], refusal) == [[1, 2], "a\ud800"]


def test_an_error_of_the_user_is_passed_on() -> None:
    with pytest.raises(UserError, match=r"^the fix$") as error:
        trial.attempt(refused, refusal)
    assert error.value.code is Code.WEIGHTS_MISSING


@pytest.mark.parametrize(("work", "reason"), REASONS)
def test_the_reason_is_named(work: Callable[[], Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 1)
    if work is sleeping:
        monkeypatch.setattr(trial, "PATIENCE_S", 2)
    with pytest.raises(UserError) as error:
        trial.attempt(work, refusal)
    assert str(error.value) == f"no result: {reason}"
    with suppress(ChildProcessError):  # there may be children of other tests, but none that has ended
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


def test_nothing_that_the_work_prints_is_seen(capfd: pytest.CaptureFixture[str]) -> None:
    trial.attempt(lambda: os.write(2, b"memory allocation of 99 bytes failed"), refusal)
    assert capfd.readouterr() == ("", "")
