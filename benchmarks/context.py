"""What each input gives on phantoms with a story:  python benchmarks/context.py --device cuda --jobs 6 --workers 2

For each context and seed, a tiny model is trained with the same number of steps. Prints, for the test split, findings
F1, change F1, the F1 of what only the indication and only the lateral image tell, and the share of misleading
indications followed: means over seeds with Student's 95 % intervals, and gains over context=none, paired by seed. Then
what each model loses if an input is withheld or comes from another patient (evaluate.drop), with the same weights. Runs
that exist in --out are not trained again. Words after -- are passed to every run.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainings import ROOT, each_seed, shown, train

from r2gen.evaluate.statistics import join_seeds

CONTEXTS = ("none", "indication", "indication_prior", "all")
SCORES = {
    "story_findings_f1": "findings F1",
    "story_change_f1": "change F1",
    "story_cause_f1": "F1 of what only the indication tells",
    "story_lateral_f1": "F1 of what only the lateral image shows",
    "story_misled": "misleading indications followed",
}
DROPS = {  # by context: the inputs that its model reads
    "none": ("lateral",),
    "indication": ("indication", "lateral"),
    "indication_prior": ("prior", "indication", "lateral"),
    "all": ("prior", "indication", "lateral"),
}


def run(context: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The test split of metrics.json of one run."""
    drops = [name for drop in DROPS[context] for name in (drop, f"other_{drop}")]
    words = [
        "data=phantom_story",
        "data.train_studies=8000",
        "data.val_studies=100",
        f"context={context}",
        f"seed={seed}",
        f"trainer.device={options.device}",
        f"trainer.max_steps={options.steps}",
        "trainer.epochs=1000000",
        "trainer.batch_size=64",
        "trainer.micro_batch_size=64",
        "trainer.learning_rate=2e-3",
        f"trainer.workers={options.workers}",
        "metrics=[bleu,change]",
        "evaluate.every=1000",
        "evaluate.splits=[test]",
        "evaluate.nearest_studies=0",
        "evaluate.page_studies=8",
        f"evaluate.drop=[{','.join(drops)}]",
        *options.overrides,
    ]
    return train(options.out / f"{context}-{seed}", *words, scores=SCORES)


def joined(values: Sequence[float | None], *, signed: bool = False) -> str:
    """The mean over seeds; "-" if a seed has no value, as in a test split without a case."""
    there = [value for value in values if value is not None]
    return shown(join_seeds(there), signed=signed) if len(there) == len(values) else "-"


def report(runs: Mapping[str, Sequence[dict[str, Any]]], contexts: Sequence[str]) -> None:
    """Print the scores of each context, and what each withheld input costs. `runs` has a split of each seed."""

    def of(context: str, system: str, score: str) -> list[float | None]:
        return [split["systems"].get(system, {}).get(score) for split in runs[context]]

    def gain(values: Sequence[float | None], over: Sequence[float | None]) -> str:
        pairs = zip(values, over, strict=True)
        return joined([None if value is None or base is None else value - base for value, base in pairs], signed=True)

    first = contexts[0]
    for score, title in SCORES.items():
        print(f"\n{title}")
        for context in contexts:
            values = of(context, "model", score)
            more = "" if context == first else f"   over {first} {gain(values, of(first, 'model', score))}"
            print(f"  {context:<18} {joined(values)}{more}")
    for context in contexts:
        for system in [name + drop for drop in DROPS[context] for name in ("no_", "other_")]:
            print(f"\ncontext={context} with the same weights, {system}")
            for score, title in SCORES.items():
                values, margins = of(context, system, score), _margins(runs[context], system, score)
                noise = f"beyond noise in {sum(not margin['within_noise'] for margin in margins)} of {len(values)}"
                print(f"  {title:<42} {joined(values)}   change {gain(values, of(context, 'model', score))}   {noise}")


def _margins(splits: Sequence[dict[str, Any]], system: str, score: str) -> list[dict[str, Any]]:
    by_seed = [split.get("drop_margins", {}).get(system, {}) for split in splits]
    return [margins[score] for margins in by_seed if score in margins]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmark-context")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of each run")
    parser.add_argument("--contexts", nargs="+", default=list(CONTEXTS), choices=CONTEXTS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--workers", type=int, default=0, help="processes of each run that draw images; 2 for a GPU")
    parser.add_argument("overrides", nargs="*", help="passed to every run, after --")
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    slowest_first = options.contexts[::-1]
    runs = each_seed(slowest_first, options.seeds, lambda *task: run(*task, options), jobs=options.jobs)
    studies = runs[options.contexts[0]][0]["studies"]
    print(f"\n{options.seeds} seeds, {options.steps} steps, test split of {studies} studies")
    report(runs, options.contexts)


if __name__ == "__main__":
    main(sys.argv[1:])
