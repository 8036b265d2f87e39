"""A polite stop: the first signal asks the loop to write a checkpoint and leave, the second leaves at once."""

import ctypes
import os
import signal
from types import FrameType


class Stopped(Exception):
    """The work was left, resumable, because a signal asked for it."""


class StopRequest:
    """Remembers that SIGINT, SIGTERM or SIGUSR1 came."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            os._exit(3)
        self.asked = True

    def leave_if_asked(self) -> None:
        if self.asked:
            raise Stopped


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it is gone, so that no rank is left behind."""
    PR_SET_PDEATHSIG = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # not Linux: a rank then ends at its next word to the others
