"""How a command hands a job to a rank that it has started before, so that the rank imports its packages meanwhile."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from r2gen.errors import STOPPED
from r2gen.ranks.exchange import FOLDER

JOB_FROM = "--job-from"  # of the rank, before the number of its end of the connection
USE_GPU = "--use-gpu"  # of the rank: its job may use the GPU
_MOST_BYTES = 2**16  # more than two paths have


def hand_over(connection: socket.socket, job_file: Path, lock: int, *, exchange: str = "") -> None:
    """Name the job file to a rank, which then shares `lock`, the open file that holds the run folder's lock.

    `exchange` is the folder through which several ranks find each other.
    """
    with suppress(BrokenPipeError, ConnectionResetError):  # the rank has failed, and has said why
        socket.send_fds(connection, [os.fsencode(job_file) + b"\0" + os.fsencode(exchange)], [lock])


class JobFile:
    """The job file of this rank: an argument, or handed over. The rank ends if the command ends without doing so.

    `then` is called with the file in another thread once it is known.
    """

    def __init__(self, arguments: Sequence[str], *, then: Callable[[Path], None]) -> None:
        named, *rest = arguments
        self._connection = socket.socket(fileno=int(rest[0])) if named == JOB_FROM else None
        self._path = None if self._connection is not None else Path(named)
        self._then = then
        self._thread = threading.Thread(target=self._wait, name="job file", daemon=True)
        self._thread.start()

    def path(self) -> Path:
        """Wait until the file is known and `then` has returned."""
        self._thread.join()
        assert self._path is not None, "no job file was received"
        return self._path

    def _wait(self) -> None:
        if self._connection is not None:
            with self._connection as connection:
                message, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 1)
            if not message:
                os._exit(STOPPED)
            assert descriptors, "the lock was not received"  # it stays open as long as this rank
            path, exchange = map(os.fsdecode, message.split(b"\0"))
            if exchange:
                os.environ[FOLDER] = exchange
            self._path = Path(path)
        assert self._path is not None
        self._then(self._path)
