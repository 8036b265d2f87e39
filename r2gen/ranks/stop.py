"""A graceful stop: on a first signal the training loop saves a checkpoint and exits; a second one ends it at once."""

import ctypes
import os
import signal
import time
from types import FrameType

from r2gen.errors import STOPPED

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
ONE_REQUEST_S = 1.0  # signals that come within it are one request
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def stop_signals() -> list[signal.Signals]:
    """The signals that ask for a stop. SIGHUP is not among them where it is ignored, as under nohup."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOPPING if not (number == signal.SIGHUP and ignores_hangup)]


def leave_on_signals() -> None:
    """End the command at once, with STOPPED, on a signal that comes before any rank has a job: nothing is to be saved.

    Ranks that have been started end too.
    """

    def leave(number: int, _: FrameType | None) -> None:
        os._exit(STOPPED)  # SystemExit is lost if Python happens to run a destructor, for example

    for number in stop_signals():
        signal.signal(number, leave)


class Stopped(Exception):
    """A signal asked for a stop, and the work was left so that it can be resumed."""


class StopRequest:
    """Remembers whether one of `stop_signals` was received."""

    def __init__(self) -> None:
        self.requested = False
        self.first_at = 0.0
        for number in stop_signals():
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        # SLURM sends SIGTERM to every process of a job, and run.py passes on its own: together they are one request.
        if self.requested and time.monotonic() - self.first_at > ONE_REQUEST_S:
            os._exit(STOPPED)
        self.requested, self.first_at = True, self.first_at or time.monotonic()

    def leave_if_requested(self) -> None:
        if self.requested:
            raise Stopped


def die_with_parent(parent: int | None = None) -> None:
    """Let Linux kill this process when its parent is gone, so that no rank is left behind.

    Pass the `parent`'s pid if it may be gone before this call.
    """
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # not Linux: a rank then ends at its next collective
    if parent is not None and os.getppid() != parent:
        os._exit(1)
