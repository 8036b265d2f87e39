"""Which rank does not come: each tells the others that it lives and how far it is; one waited for too long is named.

torch's own time-outs say in a traceback that a rank is late, or end the process without a word; and never which one.
Imports no torch: dist.py hands in the store through which the ranks of a job know each other.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

PERIOD_S = 1.0


class Store(Protocol):
    """What is used of torch's TCPStore, which rank 0 holds: it may answer late or never, or raise RuntimeError."""

    def set(self, key: str, value: str) -> None: ...

    def multi_get(self, keys: list[str]) -> list[bytes]: ...


class RollCall:
    """Watches all ranks, on every rank; calls `give_up` when some do not come, on one with a message, else with "".

    A rank is missing where no sign of life has come from its process for `timeout_s`, or where for as long it has not
    come to a meeting that another one has come to. Meetings are counted by `arrive`; all ranks have the same ones.
    """

    def __init__(
        self, store: Store, *, rank: int, world: int, timeout_s: float, give_up: Callable[[str], None]
    ) -> None:
        self.store, self.rank, self.world = store, rank, world
        self.timeout_s, self.give_up = timeout_s, give_up
        self.meetings = 0
        self.signs = 0
        self.heard = [(0, 0)] * world  # the newest sign of life and meeting of each rank
        self.silent_s = [0.0] * world  # without a sign of life, by rank
        self.late_s = [0.0] * world  # behind the foremost rank, neither of them moving
        self.ended = threading.Event()
        self._tell()
        # Two threads, since a store that does not answer blocks the one that asks.
        self.asking = threading.Thread(target=self._ask, name="roll call, asking", daemon=True)
        self.watching = threading.Thread(target=self._watch, name="roll call, watching", daemon=True)

    def start(self) -> None:
        """Begin to watch, once every rank has told of itself."""
        self.asking.start()
        self.watching.start()

    def arrive(self) -> None:
        self.meetings += 1

    def end(self) -> None:
        self.ended.set()
        self.watching.join()

    def silent(self, *, for_s: float) -> list[int]:
        """Ranks that gave no sign of life for so long; rank 0 alone where it is among them, who passes the signs on."""
        silent = [rank for rank, seconds in enumerate(self.silent_s) if rank != self.rank and seconds >= for_s]
        return [0] if 0 in silent else silent

    def _tell(self) -> None:
        self.signs += 1
        self.store.set(_key(self.rank), f"{self.signs} {self.meetings}")

    def _ask(self) -> None:
        while not self.ended.wait(PERIOD_S):
            try:
                self._tell()
                told = self.store.multi_get([_key(rank) for rank in range(self.world)])
            except RuntimeError:
                continue  # rank 0 is gone: its silence is what the watching thread sees
            signs = [value.decode().split() for value in told]
            self.heard = [(int(sign), int(meetings)) for sign, meetings in signs]

    def _watch(self) -> None:
        before, before_s = self.heard, time.monotonic()
        while not self.ended.wait(PERIOD_S):
            now, foremost = self.heard, max(meetings for _, meetings in self.heard)
            # At most a few periods, so that a job that was suspended as a whole and goes on counts nothing.
            passed_s, before_s = min(time.monotonic() - before_s, 4 * PERIOD_S), time.monotonic()
            for rank, (last, newest) in enumerate(zip(before, now, strict=True)):
                still = newest[1] == last[1] and foremost == max(meetings for _, meetings in before)
                self.silent_s[rank] = self.silent_s[rank] + passed_s if newest == last else 0.0
                self.late_s[rank] = self.late_s[rank] + passed_s if still and newest[1] < foremost else 0.0
            before = now
            silent = self.silent(for_s=self.timeout_s)
            missing = silent or [rank for rank, seconds in enumerate(self.late_s) if seconds >= self.timeout_s]
            if missing:
                self._leave(missing, "no sign of life" if silent else "alive, but not where the others wait for it")
                return

    def _leave(self, missing: list[int], how: str) -> None:
        speaks = self.rank == min(set(range(self.world)) - set(missing))
        time.sleep((2 if speaks else 3) * PERIOD_S)  # the others find so too before this rank is gone
        text = (
            f"{ranks(missing)} of {self.world} did not come within trainer.timeout_s={self.timeout_s:g} ({how}): "
            "look at its process and its machine"
        )
        if not self.ended.is_set():
            self.give_up(text if speaks else "")


def ranks(numbers: list[int]) -> str:
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _key(rank: int) -> str:
    return f"roll-call-{rank}"
