"""Objectives on phantoms at a fixed number of steps:  python benchmarks/objectives.py --device cuda --jobs 8

For each seed, with the same number of optimiser steps in all: the report loss; the report loss with findings; and the
report loss followed by self-critical steps. Prints for each the phantom's findings F1 and CIDEr on the test split, as
means over seeds with Student's 95 % intervals, and the paired gains over the report loss. Runs that exist in --out are
not trained again. Words after -- are passed to every run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r2gen.evaluate.statistics import Interval, join_seeds

ROOT = Path(__file__).resolve().parent.parent
SCORES = ("findings_f1", "cider", "bleu_4")
ARMS = ("report", "findings", "scst")
# CIDEr of phantoms is about 3, since their reports are alike, so that findings would hardly count.
REWARD = ["objective.cider=0.1", "objective.findings=2", "objective.baseline=samples", "objective.samples=4"]


def train(arm: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The test scores of one run; the one from which self-critical training starts is trained first."""
    common = [f"seed={seed}", f"trainer.device={options.device}", "trainer.epochs=1000000", *options.overrides]
    folder = options.out / f"{arm}-{seed}"
    if arm == "scst":
        start = options.out / f"start-{seed}"
        run(start, *common, f"trainer.max_steps={options.steps - options.scst_steps}")
        own = (
            "objective=scst",
            f"trainer.start={start}",
            f"trainer.max_steps={options.scst_steps}",
            f"trainer.learning_rate={options.scst_rate}",
            "trainer.warmup_steps=10",
            f"evaluate.every={options.scst_steps}",
        )
        return run(folder, *common, *own, *options.scst)
    own = options.findings if arm == "findings" else []
    return run(folder, *common, f"objective={arm}", f"trainer.max_steps={options.steps}", *own)


def run(folder: Path, *overrides: str) -> dict[str, float]:
    settings = {word.partition("=")[0]: word for word in ("metrics=[bleu,cider]", "evaluate.every=1000", *overrides)}
    command = [sys.executable, str(ROOT / "run.py"), f"run_dir={folder}", *settings.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    scores: dict[str, float] = metrics["splits"]["test"]["systems"]["model"]
    print(f"{folder.name}: {', '.join(f'{name} {scores[name]:.3f}' for name in SCORES)}", flush=True)
    return scores


def shown(interval: Interval) -> str:
    ends = "" if interval.low is None else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
    return f"{interval.value:.3f}{ends}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmark-objectives")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=940, help="optimiser steps of each arm")
    parser.add_argument("--scst-steps", type=int, default=150, help="how many of them are self-critical in that arm")
    parser.add_argument("--scst-rate", type=float, default=1e-4, help="learning rate of the self-critical steps")
    parser.add_argument("--scst", nargs="*", default=REWARD, help="further overrides of the self-critical runs")
    parser.add_argument("--findings", nargs="*", default=[], help="further overrides of the runs with findings")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("overrides", nargs="*", help="passed to every run, after --")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    arms = ["report", *(arm for arm in options.arms if arm != "report")]
    tasks = [(arm, seed) for seed in range(options.seeds) for arm in arms]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(tasks, pool.map(lambda task: train(*task, options), tasks), strict=True))
    print(f"\n{options.seeds} seeds, {options.steps} steps in all, test split")
    for score in SCORES:
        for arm in arms:
            values = [results[arm, seed][score] for seed in range(options.seeds)]
            gains = [value - results["report", seed][score] for seed, value in enumerate(values)]
            gain = "" if arm == "report" else f"   over report {shown(join_seeds(gains))}"
            print(f"{score:<12} {arm:<9} {shown(join_seeds(values))}{gain}")


if __name__ == "__main__":
    main(sys.argv[1:])
