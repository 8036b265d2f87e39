"""How a command hands a job to a rank that it has started before, so that the rank imports its packages meanwhile."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

JOB_FROM = "--job-from"  # of the rank, before the number of its end of the connection
USE_GPU = "--use-gpu"  # of the rank: its job may use the GPU
_PATH_BYTES = 2**16  # more than any path has


def hand_over(connection: socket.socket, job_file: Path, lock: int) -> None:
    """Name the job file to a rank, which then shares `lock`, the open file that holds the run folder's lock."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the rank has failed, and has said why
        socket.send_fds(connection, [os.fsencode(job_file)], [lock])


class JobFile:
    """The job file of this rank: an argument, or handed over. The rank ends if the command ends without doing so.

    `then` is called in another thread once the file is known.
    """

    def __init__(self, arguments: Sequence[str], *, then: Callable[[], None]) -> None:
        self._arguments, self._then = arguments, then
        self._path = Path()
        self._thread = threading.Thread(target=self._receive, name="job file", daemon=True)
        self._thread.start()

    def path(self) -> Path:
        """Wait until the file is known and `then` has returned."""
        self._thread.join()
        return self._path

    def _receive(self) -> None:
        if self._arguments[0] == JOB_FROM:
            with socket.socket(fileno=int(self._arguments[1])) as connection:
                path, _, _, _ = socket.recv_fds(connection, _PATH_BYTES, 1)  # the lock stays open as long as this rank
            if not path:
                os._exit(0)
            self._path = Path(os.fsdecode(path))
        else:
            self._path = Path(self._arguments[0])
        self._then()
