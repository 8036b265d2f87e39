"""A generated data set on its way: task=prepare, a few steps of training, task=evaluate."""

import json
from pathlib import Path
from typing import Any

from forked_run import run
from smallest_run import SMALLEST


def round_trip(*data: str, cwd: Path, prepare: tuple[str, ...] = (), train: tuple[str, ...] = ()) -> dict[str, Any]:
    """metrics.json of a run of 20 steps on the data set of the words `data`; the others are of one command only."""
    done = run("task=prepare", *data, *prepare, cwd=cwd, smallest=False)
    assert done.returncode == 0, done.stderr
    small = [word for word in SMALLEST if not word.startswith(("data.", "trainer.epochs"))]
    steps = ("trainer.max_steps=20", "trainer.epochs=99", "run_dir=run")
    done = run(*data, *train, *small, *steps, cwd=cwd, smallest=False)
    assert done.returncode == 0, done.stderr
    done = run("task=evaluate", "run_dir=run", cwd=cwd, smallest=False)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((cwd / "run/metrics.json").read_text())
    return metrics
