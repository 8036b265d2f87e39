"""The scores of a sweep's jobs as a table in the terminal, and what the others came to. Imports no torch."""

import json
from pathlib import Path
from typing import Any

from r2gen.evaluate.tables import terminal_table
from r2gen.sweeps.record import JobRecord, SweepRecord
from r2gen.sweeps.view import labels


def summary(record: SweepRecord) -> str:
    """One table a split that some job scored: its job's label, the model's scores. No job is named without a score."""
    names = labels(record.jobs)
    by_split: dict[str, dict[str, dict[str, float]]] = {}
    for job in record.jobs:
        for split, entry in splits_of(job).items():
            by_split.setdefault(split, {})[names[job.number]] = entry["systems"]["model"]
    return "\n\n".join(f"{split}\n{terminal_table(rows)}" for split, rows in by_split.items())


def splits_of(job: JobRecord) -> dict[str, Any]:
    """What metrics.json of a finished job has of each split."""
    if job.state != "done" or job.run_dir is None or job.task not in ("train", "evaluate"):
        return {}
    decoding = job.choices.get("generation")
    files = [Path(job.run_dir) / "metrics.json"]
    if job.task == "evaluate":
        files.insert(0, Path(job.run_dir) / f"metrics.{decoding}.json")
    for file in files:
        if file.is_file():
            splits: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["splits"]
            return splits
    return {}
