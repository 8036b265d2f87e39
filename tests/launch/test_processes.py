"""The command passes signals on, and refuses more ranks than fit in memory."""

import os
import signal
import subprocess
import sys

import pytest

from r2gen.errors import UserError
from r2gen.launch import processes


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
