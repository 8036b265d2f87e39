"""How far a run is, read from its folder while it trains. Imports no torch."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder

TAIL = 2**14  # bytes of train.jsonl that hold its last few records


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    left_s: float | None  # of training, without the scoring after it; None before two records are there

    def __str__(self) -> str:
        if self.step >= self.steps:
            return f"step {self.step}/{self.steps}, scoring"
        left = f", {tqdm.format_interval(self.left_s)} left" if self.left_s is not None else ""
        return f"step {self.step}/{self.steps}{left}"


def progress_of(run_dir: Path) -> Progress | None:
    """None where the run has not begun to train."""
    try:
        steps = RunFolder(run_dir).facts().get("steps")
        records = last_records(run_dir / "train.jsonl")
    except (OSError, UserError):
        return None
    if steps is None or not records:
        return None
    step = int(max(record["step"] for record in records))
    paced = [record for record in records if "samples_per_s" in record]
    left_s = None
    if len(paced) > 1 and paced[-1]["seconds"] > paced[0]["seconds"]:
        pace_s = (paced[-1]["seconds"] - paced[0]["seconds"]) / (paced[-1]["step"] - paced[0]["step"])
        left_s = (steps - step) * pace_s
    return Progress(step, steps, left_s)


def last_records(file: Path) -> list[dict[str, float]]:
    """The last whole records of train.jsonl, of steps and of validations."""
    with file.open("rb") as content:
        content.seek(max(0, os.fstat(content.fileno()).st_size - TAIL))
        lines = content.read().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line.startswith(b'{"event"')]
