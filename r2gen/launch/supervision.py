"""Wait for the ranks of a job, end them together, and name the rank that was lost."""

import os
import signal
import sys
import time

from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, Code
from r2gen.launch.rank_process import POLL_S, Processes, kill
from r2gen.ranks.heartbeat import rank_names
from r2gen.ranks.stop import STOPPING
from r2gen.runs.failure import Failure, report

GRACE_S = 4.0  # the other ranks have as long to end once one has failed or was stopped
PASSED_ON = [-number for number in STOPPING]  # exit statuses of a rank that had no handler yet
# Signals that a process causes by itself. The others come from another process or from a limit.
CRASHES = (
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
)


def wait(ranks: Processes, *, timeout_s: float, grace_s: float = GRACE_S) -> tuple[int, Failure | None]:
    """Wait for all ranks. Returns the exit status of the job and the failure that no rank can have reported.

    Once a rank has failed or stopped, the others have `grace_s` to end; once one has finished, they have `timeout_s`.
    A rank that is suspended (SIGSTOP) for `timeout_s` while another one is not ends the job as well.
    """
    watch = _Watch(ranks, timeout_s=timeout_s, grace_s=grace_s)
    failure = watch.until_ended()
    failure = failure or next((_signalled(rank, -code) for rank, code in watch.ended.items() if _is_crash(code)), None)
    if failure is not None:
        report(failure)
        print(f"error: {failure.message}", file=sys.stderr, flush=True)
    return _status(watch.ended, failure), failure


class _Watch:
    def __init__(self, ranks: Processes, *, timeout_s: float, grace_s: float) -> None:
        self.ranks, self.timeout_s, self.grace_s = ranks, timeout_s, grace_s
        self.ended: dict[int, int] = {}  # exit statuses by rank, in the order of their ends; without those killed here
        self.ended_at = 0.0  # the end of the first rank, or of the first that did not finish
        self.suspended_at: float | None = None

    def until_ended(self) -> Failure | None:
        while running := self._running():
            failure = self._lost(running)
            if failure is not None or self._is_late():
                kill([self.ranks[rank] for rank in running])
                return failure
            time.sleep(POLL_S)
        return None

    def _running(self) -> list[int]:
        """The ranks that run. Every rank is polled, since a suspended one must not hide the end of another."""
        running = []
        for number, rank in enumerate(self.ranks):
            if number in self.ended:
                continue
            if (status := rank.poll()) is None:
                running.append(number)
                continue
            if not self.ended or (status != DONE and not self._has_failed()):
                self.ended_at = time.monotonic()
            self.ended[number] = status
        return running

    def _has_failed(self) -> bool:
        return any(status != DONE for status in self.ended.values())

    def _is_late(self) -> bool:
        return self._has_failed() and time.monotonic() > self.ended_at + self.grace_s

    def _lost(self, running: list[int]) -> Failure | None:
        """A rank that will not end by itself although the others did or wait for it."""
        count, now = len(self.ranks), time.monotonic()
        if self.ended and not self._has_failed() and now > self.ended_at + self.timeout_s:
            return Failure(
                f"{rank_names(running)} of {count} did not end within trainer.timeout_s={self.timeout_s:g} after the "
                "others had finished. Check its process; the same command then completes the run.",
                Code.RANK_LOST,
            )
        if self._has_failed():
            return None  # that rank has said why
        suspended = [rank for rank in running if _is_suspended(self.ranks[rank].pid)]
        if not suspended or len(suspended) == count:  # a job that is suspended as a whole may continue later
            self.suspended_at = None
            return None
        self.suspended_at = self.suspended_at or now
        if now < self.suspended_at + self.timeout_s:
            return None
        return Failure(
            f"{rank_names(suspended)} of {count} did not respond within trainer.timeout_s={self.timeout_s:g} "
            "(suspended by a signal such as SIGSTOP). The same command resumes from the last checkpoint.",
            Code.RANK_LOST,
        )


def _is_suspended(pid: int) -> bool:
    state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return state is not None and state.si_code == os.CLD_STOPPED


def _is_crash(status: int) -> bool:
    return status < 0 and status not in PASSED_ON


def _signalled(rank: int, number: int) -> Failure:
    name = f"signal {number} ({signal.strsignal(number)})"
    if number == signal.SIGKILL:
        return Failure(
            f"rank {rank} was killed by signal 9, most often because the machine ran out of memory (`dmesg` or the "
            "scheduler's log shows it). Use more memory, or lower trainer.micro_batch_size (a step uses as many "
            "studies), trainer.workers or trainer.film_cache_mib; the same command then resumes from the last "
            "checkpoint.",
            Code.RANK_KILLED,
        )
    if number in CRASHES:
        return Failure(
            f"rank {rank} was ended by {name}. This is a defect of R2Gen or of a library: please report it.",
            Code.RANK_CRASHED,
        )
    return Failure(
        f"rank {rank} was ended by {name}, which another process or a limit (`ulimit -a`) sent. The same command "
        "resumes from the last checkpoint.",
        Code.RANK_KILLED,
    )


def _status(ended: dict[int, int], failure: Failure | None) -> int:
    """The exit status of a job whose ranks ended with these, in this order."""
    statuses = [_exit_status(code) for code in ended.values()]
    first = next((status for status in statuses if status != DONE), DONE)
    if failure is not None and failure.code is Code.RANK_LOST:
        return FIXABLE
    if failure is not None and failure.code is Code.RANK_CRASHED:
        return DEFECT  # also if another rank lost its connection to the crashed one
    if failure is None and first == STOPPED:
        return STOPPED  # ranks that failed later had lost their connection to the stopped one
    return next(status for status in (FIXABLE, DEFECT, STOPPED, DONE) if status in statuses)


def _exit_status(code: int) -> int:
    if code in PASSED_ON:
        return STOPPED  # the rank was still starting: there was nothing to save
    if code < 0:
        return DEFECT if -code in CRASHES else FIXABLE
    return code if code in (DONE, FIXABLE, STOPPED) else DEFECT
