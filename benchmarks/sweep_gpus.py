"""Run twelve jobs of a sweep on all GPUs of a machine; show which job had which GPU when, and the time saved.

    python benchmarks/sweep_gpus.py FOLDER [OVERRIDE ...]

Trains small models on phantoms under FOLDER, so nothing is downloaded. Without a GPU: hydra.launcher.n_jobs=2.
"""

import json
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CELLS = ["projector=linear,mlp", "tune=shallow,deep", "seed=1,2,3"]
EACH = ["trainer.epochs=5", "metrics=[bleu,rouge_l,cider]"]


def main() -> int:
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    single_s = seconds_of(["projector=linear", "tune=shallow", "seed=0", *EACH, *run_overrides()], folder)
    print(f"\none job alone: {single_s:.1f} s\n", flush=True)
    wall_s = seconds_of(["-m", *CELLS, *EACH, "hydra.sweep.dir=sweep", *sys.argv[2:]], folder)
    jobs = json.loads((folder / "sweep" / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    print(leases(jobs))
    total_s = sum(job["seconds"] for job in jobs)
    again_s = seconds_of(["-m", *CELLS, *EACH, "hydra.sweep.dir=sweep", *sys.argv[2:]], folder)
    print(
        f"\n{len(jobs)} jobs, {sum(job['state'] == 'done' for job in jobs)} done: {wall_s:.1f} s of wall time, "
        f"{total_s:.1f} s the sum of the jobs ({total_s / wall_s:.2f} at a time), {12 * single_s:.1f} s twelve times "
        f"one alone; the same sweep again: {again_s:.1f} s"
    )
    return 0 if all(job["state"] == "done" for job in jobs) else 1


def run_overrides() -> list[str]:
    """The overrides of the runs, without those of the launcher."""
    return [text for text in sys.argv[2:] if not text.startswith("hydra")]


def seconds_of(overrides: list[str], folder: Path) -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "run.py"), *overrides], cwd=folder, check=True)
    return time.monotonic() - began


def leases(jobs: list[dict[str, Any]]) -> str:
    """One line per lease, by GPU and time, and whether a GPU was ever leased twice at once."""
    begin = min(datetime.fromisoformat(job["started"]) for job in jobs)
    held: dict[str, list[tuple[float, float, dict[str, Any]]]] = {}
    for job in jobs:
        ends = [(datetime.fromisoformat(job[key]) - begin).total_seconds() for key in ("started", "finished")]
        for gpu in job["gpus"] or ["no GPU"]:
            held.setdefault(gpu, []).append((ends[0], ends[1], job))
    lines, twice = [], 0
    for gpu in sorted(held):
        rows = sorted(held[gpu], key=lambda row: row[:2])
        lines += [
            f"GPU {gpu:<8} {first:6.0f} s to {last:4.0f} s  {' '.join(job['overrides'][:3])}"
            for first, last, job in rows
        ]
        twice += sum(later[0] < earlier[1] for earlier, later in pairwise(rows)) if gpu != "no GPU" else 0
    return "\n".join([*lines, f"{len(held)} GPUs; leased twice at once: {twice} times"])


if __name__ == "__main__":
    sys.exit(main())
