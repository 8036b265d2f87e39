"""Runs broken on purpose for test_kills.py, forked as benchmarks/kills.py does; prints a line of JSON each.

PYTHONPATH=.:benchmarks python tests/support/broken_runs.py FOLDER
"""

import json
import signal
import sys
from pathlib import Path

from killed_command import SMALL, Event, Moment, command


def show(name: str, status: int, folder: Path) -> None:
    said = (folder / "output").read_text()
    print(json.dumps({"name": name, "status": status, "said": said}), flush=True)
    (folder / "output").unlink()


def main(top: Path) -> None:
    run = top / "run"
    run.mkdir()
    typed = [*SMALL, "trainer.max_steps=1"]
    status, _ = command(typed, run, Moment(signal.SIGKILL, Event("rank", 12, "start"), 0.0, "rank"))
    show("killed", status, run)
    show("again", command(typed, run)[0], run)
    scores = run / "run" / "metrics.json"
    scores.rename(scores.with_name("whole.json"))
    scores.write_text('{"splits": {"te')
    show("torn", command(typed, run)[0], run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
