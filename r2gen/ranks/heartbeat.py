"""The heartbeat between ranks: each rank reports every second that it runs, and a rank that is lost gets named.

torch's own time-outs end a process with a traceback or without a message, and never say which rank was late. torch is
not imported here: dist.py passes the store through which the ranks of a job exchange values.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

PERIOD_S = 1.0


class Store(Protocol):
    """The part in use of FolderStore and of torch's TCPStore, which may answer late or never, or raise RuntimeError."""

    def set(self, key: str, value: str) -> None: ...

    def multi_get(self, keys: list[str]) -> list[bytes]: ...


class Heartbeat:
    """Watches all ranks, on every rank, and calls `give_up` when ranks are missing.

    One rank passes it a message that names them, the others "". A rank is missing if its process has sent no heartbeat
    for `timeout_s`, or if it has not reached for as long a collective that another rank has reached. `count_collective`
    counts them; all ranks have the same collectives.
    """

    def __init__(
        self, store: Store, *, rank: int, world: int, timeout_s: float, give_up: Callable[[str], None]
    ) -> None:
        self.store, self.rank, self.world = store, rank, world
        self.timeout_s, self.give_up = timeout_s, give_up
        self.beats, self.collectives = 0, 0  # of this rank
        self.latest = [(0, 0)] * world  # (beats, collectives) of each rank
        self.silent_s = [0.0] * world  # since the last heartbeat of each rank
        self.behind_s = [0.0] * world  # since each rank fell behind the foremost one, while neither moved
        self.gives_up = False  # ranks are missing, and `give_up` is about to be called
        self.ended = threading.Event()
        self._send()
        # Two threads, since a store that does not answer blocks the thread that uses it.
        self.exchanging = threading.Thread(target=self._exchange, name="heartbeat, exchange", daemon=True)
        self.watching = threading.Thread(target=self._watch, name="heartbeat, watch", daemon=True)

    def start(self) -> None:
        """Begin to watch, once every rank has sent a heartbeat."""
        self.exchanging.start()
        self.watching.start()

    def count_collective(self) -> None:
        self.collectives += 1

    def end(self) -> None:
        self.ended.set()
        self.watching.join()

    def silent(self, *, for_s: float) -> list[int]:
        """Ranks without a heartbeat for so long; only rank 0 if it is silent, since it passes on all heartbeats."""
        silent = [rank for rank, seconds in enumerate(self.silent_s) if rank != self.rank and seconds >= for_s]
        return [0] if 0 in silent else silent

    def _send(self) -> None:
        self.beats += 1
        self.store.set(_key(self.rank), f"{self.beats} {self.collectives}")

    def _exchange(self) -> None:
        while not self.ended.wait(PERIOD_S):
            try:
                self._send()
                values = self.store.multi_get([_key(rank) for rank in range(self.world)])
            except (RuntimeError, OSError):
                continue  # rank 0, which holds a TCPStore, is gone: the watching thread sees that it is silent
            pairs = [value.decode().split() for value in values]
            self.latest = [(int(beats), int(collectives)) for beats, collectives in pairs]

    def _watch(self) -> None:
        before, before_s = self.latest, time.monotonic()
        while not self.ended.wait(PERIOD_S):
            now, foremost = self.latest, max(collectives for _, collectives in self.latest)
            foremost_moved = foremost != max(collectives for _, collectives in before)
            # At most a few periods count, so that a job that was suspended as a whole and continues loses no rank.
            passed_s, before_s = min(time.monotonic() - before_s, 4 * PERIOD_S), time.monotonic()
            for rank, (earlier, later) in enumerate(zip(before, now, strict=True)):
                moved = foremost_moved or later[1] != earlier[1]
                self.silent_s[rank] = self.silent_s[rank] + passed_s if later == earlier else 0.0
                self.behind_s[rank] = self.behind_s[rank] + passed_s if later[1] < foremost and not moved else 0.0
            before = now
            silent = self.silent(for_s=self.timeout_s)
            missing = silent or [rank for rank, seconds in enumerate(self.behind_s) if seconds >= self.timeout_s]
            if missing:
                self.gives_up = True
                self._give_up(missing, "no heartbeat" if silent else "alive, but not in the collective of the others")
                return

    def _give_up(self, missing: list[int], how: str) -> None:
        reports = self.rank == min(set(range(self.world)) - set(missing))
        time.sleep((2 if reports else 3) * PERIOD_S)  # so that every rank notices before the first one exits
        message = (
            f"{rank_names(missing)} of {self.world} did not respond within trainer.timeout_s={self.timeout_s:g} "
            f"({how}). Check its process and its machine; the same command then resumes."
        )
        if not self.ended.is_set():
            self.give_up(message if reports else "")


def rank_names(numbers: list[int]) -> str:
    """`rank 3`, or `ranks 3, 5`."""
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _key(rank: int) -> str:
    return f"heartbeat-{rank}"
