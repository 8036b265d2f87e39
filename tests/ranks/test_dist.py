"""The other ranks name a lost rank in one line within the time-out, however it was lost."""

import json
import re

import pytest
from forked_run import run_script
from smallest_run import ROOT

from r2gen.errors import DONE, FIXABLE

LATE = "rank {} of 3 did not respond within trainer.timeout_s=12"
# On a busy machine a rank that has noticed it may exit before the one that reports it, which sees a closed connection.
FIRST_STOPPED = LATE.format(0) + r" \(no heartbeat\)|lost: the connection to rank 0 was lost: "


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
        ("first stopped", FIRST_STOPPED),
        ("hangs", LATE.format(1) + r" \(alive, but not in the collective of the others\)"),
        ("killed", "lost: the connection to rank 2 was lost: "),
        ("first killed", "lost: the connection to rank 0 was lost: "),
        ("first stopped, tcp", FIRST_STOPPED),
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
