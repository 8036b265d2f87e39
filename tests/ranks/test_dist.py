"""The other ranks name a lost rank in one line within the time-out, however it was lost."""

import json
import re
import time

import pytest
from forked_run import run_script
from smallest_run import ROOT

from r2gen.errors import DONE, FIXABLE
from r2gen.ranks import dist
from r2gen.ranks.heartbeat import Heartbeat

LATE = "rank {} of 3 did not respond within trainer.timeout_s=12"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[int]]]:
    """By case: the output of all ranks, and the exit statuses of those that are not lost."""
    folder = tmp_path_factory.mktemp("lost")
    done = run_script(ROOT / "tests" / "support" / "lost_ranks.py", str(folder))
    assert done.returncode == 0, done.stderr
    return {
        file.stem: (
            "".join(output.read_text() for output in sorted(folder.glob(f"{file.stem}.[0-9]"))),
            json.loads(file.read_text()),
        )
        for file in folder.glob("*.json")
    }


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("stopped", LATE.format(1) + r" \(no heartbeat\)"),
        ("first stopped", LATE.format(0) + r" \(no heartbeat\)"),
        ("hangs", LATE.format(1) + r" \(alive, but not in the collective of the others\)"),
        ("killed", "lost: the connection to rank 2 was lost: "),
        ("first killed", "lost: the connection to rank 0 was lost: "),
        ("first stopped, tcp", LATE.format(0) + r" \(no heartbeat\)"),
        ("first killed, tcp", "lost: the connection to rank 0 was lost: "),
        ("never starts", r"rank 2 of 3 did not start within trainer\.timeout_s=12"),
    ],
)
def test_a_lost_rank_is_named_once_and_nothing_hangs(cases: dict[str, tuple[str, list[int]]], case: str, message: str):
    text, statuses = cases[case]
    assert statuses == [FIXABLE, FIXABLE]
    lines = set(text.splitlines())  # a job prints an equal message of several ranks once (tests/tasks/test_worker.py)
    assert len([line for line in lines if re.search(message, line)]) == 1, text
    assert "Traceback" not in text
    assert "frame #" not in text


def test_no_rank_is_named_if_all_respond(cases: dict[str, tuple[str, list[int]]]):
    assert cases["none lost"] == cases["none lost, tcp"] == ("done\n" * 3, [DONE] * 3)


class SilentRank:
    """A store in which rank 1 has sent one heartbeat only."""

    def __init__(self) -> None:
        self.own = ""

    def set(self, key: str, value: str) -> None:
        self.own = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return [self.own.encode(), b"1 0"]


def test_a_rank_that_has_noticed_a_missing_one_names_it_also_if_its_connection_closes(monkeypatch: pytest.MonkeyPatch):
    reported: list[str] = []
    heartbeat = Heartbeat(SilentRank(), rank=0, world=2, timeout_s=1, give_up=reported.append)
    monkeypatch.setattr(dist, "_heartbeats", [heartbeat])
    heartbeat.start()
    while not heartbeat.gives_up:
        time.sleep(0.01)
    assert not reported
    dist.lost(RuntimeError("[/gloo/pair.cc] Connection closed by peer"))
    assert len(reported) == 1
    assert "rank 1 of 2 did not respond within trainer.timeout_s=1 (no heartbeat)" in reported[0]
    heartbeat.end()
