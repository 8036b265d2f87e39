"""Run `python run.py` in this process, for commands that start no rank."""

import io
import signal
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from smallest_run import ROOT

from r2gen.ranks.stop import STOPPING

sys.path.insert(0, str(ROOT))

import run as command


def run_in_process(*words: str, cwd: Path) -> tuple[int, str]:
    """The status of a command and its output, standard error included."""
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    before, sys.argv = sys.argv, ["run.py", *words]
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    output = io.StringIO()
    try:
        with chdir(cwd), redirect_stdout(output), redirect_stderr(output):
            status = command.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.argv, GlobalHydra.instance().hydra = before, outer
    return status, output.getvalue()
