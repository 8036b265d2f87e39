"""Work in a process of its own, forked from this one, which continues meanwhile."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import IO, Generic, Protocol, TypeVar

from r2gen.errors import Code, UserError
from r2gen.ranks.stop import STOPPING, die_with_parent

_NICENESS = 5  # the process that feeds the GPU goes first

Result = TypeVar("Result")


class Forked(Generic[Result]):
    """The result of a function that runs in a forked process.

    The function finds everything in memory that it uses, and only its result is pickled. It must not use a GPU, torch,
    or a pipe to another process. Outside Linux, where forking is not safe, it runs when its result is needed.

    The process ends when it has the result, which is in memory that both share: a large one in a pipe would wait for
    `result`, and the process would hold open the pipes of others, such as Java's, which ends when its input is closed.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._receiver: Connection | None = None
        if sys.platform == "linux":
            self._receiver, sender = get_context("fork").Pipe(duplex=False)
            self._answer = os.fdopen(os.memfd_create("r2gen-result"), "w+b")
            arguments = (work, self._receiver, sender, self._answer, os.getpid())
            self._process = get_context("fork").Process(target=_run, args=arguments, daemon=True)
            self._process.start()
            sender.close()

    def ready(self) -> bool:
        """Whether `result` does not wait long."""
        return self._receiver is not None and self._receiver.poll()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most so long; whether `result` does not wait any more."""
        return self._receiver is None or self._receiver.poll(timeout_s)

    def result(self) -> Result:
        """What the function returned, once. Raises what it raised, and UserError if its process was killed."""
        if self._receiver is None:
            return self._work()
        result: Result
        try:
            self._receiver.recv_bytes()
        except EOFError:
            self._process.join()
            raise UserError(
                f"a process that prepares baselines or the page was killed (exit status {self._process.exitcode}), "
                "most often because memory ran out. Lower trainer.workers or trainer.film_cache_mib; the same command "
                "then resumes from the last checkpoint.",
                code=Code.MEMORY_WORKERS,
            ) from None
        self._answer.seek(0)
        result, error, where = ForkingPickler.loads(self._answer.read())  # as a multiprocessing.Pipe does
        self.close()
        if error is not None:
            raise error from RuntimeError(f"in a forked process:\n{where}")
        return result

    def close(self) -> None:
        """End the process, if it still runs."""
        if self._receiver is not None:
            self._process.kill()
            self._process.join()
            self._receiver.close()
            self._answer.close()


def _run(work: Callable[[], object], receiver: Connection, sender: Connection, answer: IO[bytes], parent: int) -> None:
    die_with_parent(parent)
    receiver.close()
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # the parent ends this process
    os.nice(_NICENESS)
    try:
        pickled = pickle.dumps((work(), None, ""))
    except Exception as error:  # raised by `result`
        pickled = pickle.dumps((None, error, traceback.format_exc()))
    answer.write(pickled)
    answer.flush()
    sender.send_bytes(b"done")


class Fork(Protocol):
    """Starts a function in a forked process."""

    def __call__(self, work: Callable[[], Result], /) -> Forked[Result]: ...
