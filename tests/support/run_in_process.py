"""`python run.py` in this process, as far as it gets without a rank: its status and what it printed."""

import io
import signal
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from smallest_run import ROOT

sys.path.insert(0, str(ROOT))

import run as command


def run_in_process(*typed: str, cwd: Path) -> tuple[int, str]:
    command.statuses.clear()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    before, sys.argv = sys.argv, ["run.py", *typed]
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    said = io.StringIO()
    try:
        with chdir(cwd), redirect_stdout(said), redirect_stderr(said):
            status = command.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.argv, GlobalHydra.instance().hydra = before, outer
    return status, said.getvalue()
