"""Trainings of benchmarks that compare options over seeds: what benchmarks/context.py and objectives.py share."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from r2gen.evaluate.statistics import Interval

ROOT = Path(__file__).resolve().parent.parent
Result = TypeVar("Result")


def train(folder: Path, *words: str, scores: Collection[str]) -> dict[str, Any]:
    """The test split of metrics.json of one run, trained unless it exists. Prints these scores; later words count."""
    settings = {word.partition("=")[0]: word for word in words}
    command = [sys.executable, str(ROOT / "run.py"), f"run_dir={folder}", *settings.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    split: dict[str, Any] = metrics["splits"]["test"]
    values = split["systems"]["model"]
    print(f"{folder.name}: {', '.join(f'{name} {values[name]:.3f}' for name in scores if name in values)}", flush=True)
    return split


def each_seed(
    arms: Sequence[str], seeds: int, run: Callable[[str, int], Result], *, jobs: int
) -> dict[str, list[Result]]:
    """By arm: the result of each seed. `jobs` runs at a time."""
    tasks = [(arm, seed) for seed in range(seeds) for arm in arms]
    with ThreadPoolExecutor(jobs) as pool:
        results = dict(zip(tasks, pool.map(lambda task: run(*task), tasks), strict=True))
    return {arm: [results[arm, seed] for seed in range(seeds)] for arm in arms}


def shown(interval: Interval, *, signed: bool = False) -> str:
    ends = "" if interval.low is None else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
    return f"{interval.value:{'+' if signed else ''}.3f}{ends}"
