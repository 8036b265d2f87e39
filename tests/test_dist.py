"""A rank that is lost is named by the others, soon and in one line, whatever became of it."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from smallest_run import ROOT

from r2gen.errors import DEFECT, DONE, FIXABLE
from r2gen.launch import processes

LATE = "rank {} of 3 did not come within trainer.timeout_s=12"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[int]]]:
    """By case, what all ranks printed, and the exit statuses of those not lost."""
    folder = tmp_path_factory.mktemp("lost")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "lost_ranks.py"), str(folder)],
        env=environment,
        check=True,
        timeout=120,
    )
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
        ("stopped", LATE.format(1) + r" \(no sign of life\)"),
        ("first stopped", LATE.format(0) + r" \(no sign of life\)"),
        ("hangs", LATE.format(1) + r" \(alive, but not where the others wait for it\)"),
        ("killed", "lost: contact to rank 2 was lost: "),
        ("first killed", "lost: contact to rank 0 was lost: "),
        ("never starts", r"rank 2 of 3 did not start within trainer\.timeout_s=12"),
    ],
)
def test_the_lost_rank_is_named_once_and_nothing_hangs(said: dict[str, tuple[str, list[int]]], case: str, message: str):
    text, statuses = said[case]
    assert statuses == [FIXABLE, FIXABLE]
    assert len(re.findall(message, text)) == 1, text
    assert "Traceback" not in text
    assert "frame #" not in text


def test_ranks_that_all_come_are_left_alone(said: dict[str, tuple[str, list[int]]]):
    assert said["nobody"] == ("done\n" * 3, [DONE] * 3)


def test_the_command_names_a_rank_that_was_killed_and_ends_the_others():
    sleepers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) for _ in range(2)]
    sleepers[1].send_signal(signal.SIGKILL)
    sleepers[1].wait()
    status, killed = processes._wait(sleepers, grace_s=0.1)
    assert status == FIXABLE
    assert killed is not None
    assert killed.startswith("rank 1 was killed by signal 9")
    assert sleepers[0].returncode == -signal.SIGKILL


def test_the_command_names_a_rank_that_fell_over_in_a_library(capsys: pytest.CaptureFixture[str]):
    fallen = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"], stderr=subprocess.DEVNULL)
    status, why = processes._wait([fallen], grace_s=0.1)
    assert (status, why) == (DEFECT, "rank 0 was ended by signal 6 (Aborted), a defect, not a mistake")
    assert capsys.readouterr().err == f"error: {why}\n"


def test_a_signal_that_came_before_a_rank_is_passed_on_to_it_once():
    with processes.Forward() as forward:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            forward.to(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        assert [rank.wait(20) for rank in forward.ranks] == [-signal.SIGTERM] * 2
