"""The command names a rank that died, ends the others, passes signals on, and refuses more ranks than fit in memory."""

import os
import signal
import subprocess
import sys

import pytest

from r2gen.errors import DEFECT, FIXABLE, UserError
from r2gen.launch import processes


def test_the_command_names_a_rank_that_was_killed_and_ends_the_others():
    sleepers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) for _ in range(2)]
    sleepers[1].send_signal(signal.SIGKILL)
    sleepers[1].wait()
    status, failure = processes._wait(sleepers, grace_s=0.1)
    assert status == FIXABLE
    assert failure is not None
    assert failure.code == "rank.killed"
    assert failure.message.startswith("rank 1 was killed by signal 9")
    assert sleepers[0].returncode == -signal.SIGKILL


def test_the_command_names_a_rank_that_crashed(capsys: pytest.CaptureFixture[str]):
    crashed = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"], stderr=subprocess.DEVNULL)
    status, failure = processes._wait([crashed], grace_s=0.1)
    assert failure is not None
    assert (status, failure.code) == (DEFECT, "rank.crashed")
    assert failure.message.startswith("rank 0 was ended by signal 6 (Aborted). This is a defect")
    assert capsys.readouterr().err == f"error: {failure.message}\n"


def test_a_signal_received_before_a_rank_starts_is_passed_on_to_it_once():
    with processes.Forward() as forward:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            forward.to(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        assert [rank.wait(20) for rank in forward.ranks] == [-signal.SIGTERM] * 2


def test_ranks_that_would_fill_the_memory_are_refused_before_they_start():
    processes.refuse_too_many(1)
    with pytest.raises(UserError, match=r"^trainer\.devices=1000000 needs some 500000 GiB of memory for its processes"):
        processes.refuse_too_many(1_000_000)
