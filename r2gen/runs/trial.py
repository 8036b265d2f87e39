"""Work on a file that may be hostile, in a child process with limits: it may hang, crash or take all memory.

The child is forked, so that it starts at once and has what was imported here. It uses no GPU and writes no file.
"""

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from r2gen.errors import Code, UserError

SECONDS, MIB = 10, 1024  # of processor time, and of memory beyond that of this process
PATIENCE_S = 60  # for a child that hardly gets a processor, on a busy machine
TOO_MUCH = f"it needs more than {MIB} MiB of memory"
LARGEST_ANSWER = 2**24  # bytes


def attempt(work: Callable[[], Any], refusal: Callable[[str], UserError]) -> Any:
    """The result of `work`, which must be plain data, computed within SECONDS, PATIENCE_S and MIB.

    Raises the UserError that `work` raised, or `refusal` of the reason why there is no result.
    """
    with attempted(work, refusal) as result:
        return result()


@contextmanager
def attempted(work: Callable[[], Any], refusal: Callable[[str], UserError]) -> Iterator[Callable[[], Any]]:
    """As attempt, while this process does something else: what the context gives waits for the result."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns wherever there are threads
        child = os.fork()
    if child == 0:
        _answer(work, writing)
    os.close(writing)
    deadline = time.monotonic() + PATIENCE_S

    @cache  # once, since another process may get its number afterwards
    def end() -> int:
        """End the child, and return the signal that ended it, or 0."""
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = 0
        with suppress(ChildProcessError):
            status = os.waitpid(child, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def result() -> Any:
        received, in_time = _receive(reading, deadline)
        if received is None:
            raise refusal("its result is too large")
        return _result(received, in_time=in_time, number=end(), refusal=refusal)

    try:
        yield result
    finally:
        os.close(reading)
        end()


def _result(received: bytes, *, in_time: bool, number: int, refusal: Callable[[str], UserError]) -> Any:
    if number == signal.SIGXCPU:
        raise refusal(f"it takes more than {SECONDS} s of processor time")
    if not in_time or number == signal.SIGALRM:
        raise refusal(f"it does not end within {PATIENCE_S} s")
    try:
        answer = json.loads(received)
    except ValueError as error:
        out_of_memory = number == signal.SIGABRT  # Rust and C++ abort where Python has an error
        raise refusal(TOO_MUCH if out_of_memory else f"it ends by signal {number}") from error
    if "error" in answer:
        raise UserError(answer["error"], code=Code(answer["code"]))
    if "reason" in answer:
        raise refusal(answer["reason"])
    return answer["value"]


def _receive(reading: int, deadline: float) -> tuple[bytes | None, bool]:
    """What the child sent, and whether it ended before the deadline; None if it sends too much."""
    received = b""
    while len(received) <= LARGEST_ANSWER:
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return received, False
        part = os.read(reading, 2**16)
        if not part:
            return received, True
        received += part
    return None, True


def _answer(work: Callable[[], Any], writing: int) -> None:
    """The child: send the result or the error, and end."""
    answer: dict[str, Any]
    try:
        gc.disable()  # it would free what belongs to the parent, on a GPU too
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGXCPU):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(PATIENCE_S + 5)  # where the parent has ended
        faulthandler.disable()  # it would print where the child aborts
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # libraries that abort print why
            os.dup2(nowhere, descriptor)
        _limit()
        answer = {"value": work()}
    except UserError as error:
        answer = {"error": str(error), "code": error.code}
    except MemoryError:
        answer = {"reason": TOO_MUCH}
    except RecursionError:
        answer = {"reason": "it is nested too deep"}
    except BaseException as error:  # Rust's panics are not an Exception
        reason = " ".join(str(error).split()) or type(error).__name__
        answer = {"reason": TOO_MUCH if "can't allocate memory" in reason else reason[:200]}
    try:
        content = json.dumps(answer).encode()
        with os.fdopen(writing, "wb") as out:
            out.write(content)
    finally:
        os._exit(0)


def _limit() -> None:
    """Allow SECONDS, MIB more memory than this process has, and no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    most, hard = pages * resource.getpagesize() + MIB * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
