"""Objectives on phantoms at a fixed number of steps:  python benchmarks/objectives.py --device cuda --jobs 8

For each seed, with the same number of optimiser steps in all: the report loss; the report loss with findings; with
findings in the prompt; and the report loss followed by self-critical steps. Prints for each the phantom's findings F1
and CIDEr on the test split, as means over seeds with Student's 95 % intervals, and the paired gains over the report
loss. Runs that exist in --out are not trained again. Words after -- are passed to every run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trainings import ROOT, each_seed, shown, train

from r2gen.evaluate.statistics import join_seeds

SCORES = ("findings_f1", "cider", "bleu_4")
ARMS = ("report", "findings", "findings_prompt", "scst")
# CIDEr of phantoms is about 3, since their reports are alike, so that findings would hardly count.
REWARD = ["objective.cider=0.1", "objective.findings=2", "objective.baseline=samples", "objective.samples=4"]


def run(arm: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The test scores of one run; the one from which self-critical training starts is trained first."""
    common = [f"seed={seed}", f"trainer.device={options.device}", "trainer.epochs=1000000", *options.overrides]
    folder = options.out / f"{arm}-{seed}"
    if arm == "scst":
        start = options.out / f"start-{seed}"
        scores_of(start, *common, f"trainer.max_steps={options.steps - options.scst_steps}")
        own = (
            "objective=scst",
            f"trainer.start={start}",
            f"trainer.max_steps={options.scst_steps}",
            f"trainer.learning_rate={options.scst_rate}",
            "trainer.warmup_steps=10",
            f"evaluate.every={options.scst_steps}",
        )
        return scores_of(folder, *common, *own, *options.scst)
    own = options.findings if arm == "findings" else []
    return scores_of(folder, *common, f"objective={arm}", f"trainer.max_steps={options.steps}", *own)


def scores_of(folder: Path, *overrides: str) -> dict[str, float]:
    split = train(folder, "metrics=[bleu,cider]", "evaluate.every=1000", *overrides, scores=SCORES)
    scores: dict[str, float] = split["systems"]["model"]
    return scores


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
    results = each_seed(arms, options.seeds, lambda *task: run(*task, options), jobs=options.jobs)
    print(f"\n{options.seeds} seeds, {options.steps} steps in all, test split")
    for score in SCORES:
        for arm in arms:
            values, base = ([scores[score] for scores in results[name]] for name in (arm, "report"))
            gains = [value - of_base for value, of_base in zip(values, base, strict=True)]
            gain = "" if arm == "report" else f"   over report {shown(join_seeds(gains))}"
            print(f"{score:<12} {arm:<15} {shown(join_seeds(values))}{gain}")


if __name__ == "__main__":
    main(sys.argv[1:])
