"""Compare one rank with several:  python benchmarks/ranks.py --devices 2 --device cuda

Trains on the same phantoms with the same micro-batches on 1 and on N ranks, in fp32 and bf16, under every ZeRO stage,
and evaluates the one-rank weights on N ranks. Prints each line as soon as it is measured: the difference of the losses
from those of one rank, the number of reports that differ, samples/s, and the peak memory of rank 0 in training. The
one-rank run is trained twice; the difference between the two is the noise of the machine. Needs no network and no Java,
and keeps no files.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"cuda": (1024, 8, 16, 2816), "cpu": (64, 2, 4, 128)}  # a LLaMA of 0.1 G weights, or of 0.1 M
COLUMNS = ("run", "loss, largest relative difference", "reports that differ", "samples/s", "peak GiB")
WIDTHS = (50, 34, 20, 10, 9)


@dataclass(frozen=True)
class Outcome:
    """Losses, speed, memory and reports of a run."""

    losses: list[float]
    samples_per_s: float
    peak_gib: float
    reports: dict[str, str]  # by split and study


def train(folder: Path, overrides: list[str], *, batch_size: int) -> Outcome:
    command("fresh=true", f"run_dir={folder}", *overrides)
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    late = steps[len(steps) // 2 :]  # once images are cached and kernels are chosen
    seconds = late[-1]["seconds"] - late[0]["seconds"]
    return Outcome(
        [step["loss"] for step in steps],
        (late[-1]["step"] - late[0]["step"]) * batch_size / seconds,
        steps[-1]["peak_gib"],
        reports(folder),
    )


def reports(folder: Path) -> dict[str, str]:
    return {
        f"{file.name} {prediction['id']}": prediction["report"]
        for file in sorted((folder / "predictions").glob("*.jsonl"))
        for prediction in map(json.loads, file.read_text().splitlines()[1:])
    }


def command(*overrides: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *overrides], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-4000:] + done.stderr[-4000:])


def row(name: str, result: Outcome, of_one_rank: Outcome | None) -> list[str]:
    if of_one_rank is None:
        return [name, "-", "-", f"{result.samples_per_s:.1f}", f"{result.peak_gib:.2f}"]
    far = max(abs(a - b) / a for a, b in zip(of_one_rank.losses, result.losses, strict=True))
    return [
        name,
        f"{far:.1e}" if far else "0",
        differ(result.reports, of_one_rank.reports),
        f"{result.samples_per_s:.1f}",
        f"{result.peak_gib:.2f}",
    ]


def differ(reports: dict[str, str], expected: dict[str, str]) -> str:
    assert reports.keys() == expected.keys(), "a study was generated more or less than once"
    return f"{sum(reports[study] != expected[study] for study in expected)} of {len(expected)}"


def main() -> None:
    parser: Any = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--stages", default="0,1,2,3")
    options = parser.parse_args()
    ranks, (hidden, layers, heads, inner) = options.devices, SIZES[options.device]
    precisions, stages = options.precisions.split(","), options.stages.split(",")
    work = Path(tempfile.mkdtemp(prefix="ranks-"))
    same = [
        "data.train_studies=256",
        "data.val_studies=32",
        "data.test_studies=64",
        "metrics=[bleu,rouge_l,cider]",
        f"lm.architecture={{hidden_size: {hidden}, num_hidden_layers: {layers}, num_attention_heads: {heads}, "
        f"intermediate_size: {inner}}}",
        f"trainer.device={options.device}",
        f"trainer.max_steps={options.steps}",
        "trainer.epochs=1000",
        "trainer.warmup_steps=10",
        "trainer.learning_rate=3e-4",
        f"trainer.batch_size={options.batch_size}",
        f"trainer.micro_batch_size={options.batch_size // ranks}",
        "trainer.log_every_steps=5",
        "trainer.keep=1",
        "evaluate.every=1000",
        "evaluate.nearest_studies=0",
        "generation.max_new_tokens=40",
    ]
    say(COLUMNS)
    try:
        for precision in precisions:
            each = [*same, f"trainer.precision={precision}"]
            of_one_rank = train(
                work / "one", [*each, "trainer=zero0", "trainer.devices=1"], batch_size=options.batch_size
            )
            say(row(f"{precision}, zero0, 1 rank", of_one_rank, None))
            again = train(work / "again", [*each, "trainer=zero0", "trainer.devices=1"], batch_size=options.batch_size)
            say(row(f"{precision}, zero0, 1 rank, once more", again, of_one_rank))
            for stage in stages if precision == precisions[-1] else stages[:1]:
                several = [*each, f"trainer=zero{stage}", f"trainer.devices={ranks}"]
                result = train(work / "several", several, batch_size=options.batch_size)
                say(row(f"{precision}, zero{stage}, {ranks} ranks", result, of_one_rank))
            shutil.rmtree(work / "one" / "predictions")
            (work / "one" / "metrics.json").unlink()
            command("task=evaluate", f"run_dir={work / 'one'}", f"trainer.devices={ranks}")
            name = f"{precision}, the one rank's weights evaluated by {ranks}"
            say([name, "", differ(reports(work / "one"), of_one_rank.reports), "", ""])
    finally:
        shutil.rmtree(work)


def say(cells: Sequence[str]) -> None:
    """Print a line at once, so that a time limit costs the later ones only."""
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip(), flush=True)


if __name__ == "__main__":
    main()
