"""A polite stop: the first signal asks the loop to write a checkpoint and leave, the second leaves at once."""

import ctypes
import os
import signal
import time
from types import FrameType

ONE_REQUEST_S = 1.0


class Stopped(Exception):
    """The work was left, resumable, because a signal asked for it."""


class StopRequest:
    """Remembers that SIGINT, SIGTERM or SIGUSR1 came."""

    def __init__(self) -> None:
        self.asked = False
        self.first_at = 0.0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        # SLURM sends SIGTERM to every process of a job, and run.py passes on its own: together they are one request.
        if self.asked and time.monotonic() - self.first_at > ONE_REQUEST_S:
            os._exit(3)
        self.asked, self.first_at = True, self.first_at or time.monotonic()

    def leave_if_asked(self) -> None:
        if self.asked:
            raise Stopped


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to end this process when the one that started it is gone, so that no rank is left behind.

    `parent` is that one's pid, where it may have gone before this could ask.
    """
    PR_SET_PDEATHSIG = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # not Linux: a rank then ends at its next word to the others
    if parent is not None and os.getppid() != parent:
        os._exit(1)
