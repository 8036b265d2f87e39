"""A rank that is lost is named by the others, soon and in one line, whatever became of it."""

import json
import os
import re
import subprocess
import sys

import pytest
from smallest_run import ROOT

from r2gen.errors import DONE, FIXABLE

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
