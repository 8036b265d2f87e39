"""Kills runs at random moments and compares what the same command then ends with:  python benchmarks/kills.py [KILLS]

    python benchmarks/kills.py 50            50 kills by SIGKILL and 10 by SIGTERM, a row each
    python benchmarks/kills.py 5 --terms 0   fewer

Every run is the whole command in real processes, the launcher and its rank, on real files. They are forked from one
process that has made the imports, which would take most of the time (killed_command.py, which says what a moment is).
A kill that comes after the run's end is drawn again. After the kill the same command is given again and must end with
the weights, reports and scores of the unbroken run, bit for bit, and leave no temporary file. Half of the runs start
from nothing, the others go on from a finished run of fewer epochs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from killed_command import PHASES, SMALL, STEP_S, Event, Moment, command, phase_of, wait_for_lock
from safetensors.numpy import load_file


def outcome(run_dir: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on a kill."""
    weights = {
        name: {
            key: tensor.tobytes()
            for key, tensor in load_file(run_dir / "checkpoints" / name / "trainable.safetensors").items()
        }
        for name in ("last", "best")
    }
    log = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    return {
        **weights,
        "reports": [
            json.loads(line)["report"]
            for split in ("val", "test")
            for line in (run_dir / f"predictions/{split}.greedy.jsonl").read_text().splitlines()[1:]
        ],
        "scores": json.loads((run_dir / "metrics.json").read_text())["splits"],
        "log": [(line["event"], line["step"], line.get("loss"), line.get("scores")) for line in log],
        "status": json.loads((run_dir / "run.json").read_text())["status"],
        "page": '"status":"finished"' in (run_dir / "report.html").read_text(),
        "files": sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("*")),
    }


@dataclass(frozen=True)
class Scenario:
    """A command, what lies in its folder before it, and what it comes to where nothing kills it."""

    name: str
    overrides: list[str]
    before: Path | None
    events: list[Event]
    seconds: float
    outcome: dict[str, Any]


def scenario(name: str, overrides: list[str], folder: Path, before: Path | None) -> Scenario:
    place(before, folder)
    began = time.monotonic()
    status, told = command(overrides, folder)
    assert status == 0, (folder / "output").read_text()
    seconds, counts, seen, events = time.monotonic() - began, Counter[str](), list[str](), list[Event]()
    for process, event, path in told.events:
        seen.append(phase_of(event, path, seen))
        events.append(Event(process, counts[process], seen[-1]))
        counts[process] += 1
    return Scenario(name, overrides, before, events, seconds, outcome(folder / "run"))


def place(before: Path | None, folder: Path) -> None:
    folder.mkdir()
    if before is not None:
        shutil.copytree(before / "run", folder / "run", symlinks=True)


def moment_of(draw: random.Random, of: Scenario, kind: int, phase: str | None) -> Moment:
    """A moment of a phase, or any time where it is None: which event, how long after it, and whom is drawn."""
    term = kind == signal.SIGTERM  # a signal that a process answers, so it must go on
    if phase is None:
        return Moment(kind, None, draw.uniform(0, of.seconds), "launcher" if term else "both")
    event = draw.choice([event for event in of.events if event.phase == phase])
    after_s = draw.uniform(1e-4, STEP_S) if term or draw.random() < 0.5 else 0.0
    whom = "launcher" if term or event.process == "launcher" else draw.choice(["launcher", "rank", "both"])
    return Moment(kind, event, after_s, whom)


def try_one(of: Scenario, moment: Moment, folder: Path) -> tuple[int, list[str]]:
    """The status of the killed command, and what differs from the unbroken run after the same command again."""
    place(of.before, folder)
    status, _ = command(of.overrides, folder, moment)
    wait_for_lock(folder / "run")
    again, _ = command(of.overrides, folder)
    if again != 0:
        return status, [f"status {again}: {(folder / 'output').read_text()[-600:]}"]
    found = outcome(folder / "run")
    return status, [key for key in of.outcome if found[key] != of.outcome[key]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=50)
    parser.add_argument("--terms", type=int, default=10, help="runs that SIGTERM stops")
    parser.add_argument("--seed", type=int, default=0)
    typed = parser.parse_args()
    draw = random.Random(typed.seed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        whole = scenario("train", [*SMALL, "trainer.epochs=2"], root / "whole", None)
        scenario("first", [*SMALL, "trainer.epochs=1"], root / "first", None)
        longer = scenario("go on", [*SMALL, "trainer.epochs=2"], root / "longer", root / "first")
        print(
            f"unbroken: {len(whole.events)} and {len(longer.events)} file events in {whole.seconds:.1f} s\n\n"
            f"{'':>4} {'scenario':<9} {'signal':<8} {'whom':<9} {'moment':<30} {'status':>6}  the same command again"
        )
        equal = 0
        kinds = [(signal.SIGKILL, typed.kills), (signal.SIGTERM, typed.terms)]
        phases = draw.sample([*PHASES, None], len(PHASES) + 1)  # None: any time; in an order of its own, for few kills
        plan = [
            (kind, (whole, longer)[index % 2], phases[index // 2 % len(phases)])
            for kind, number in kinds
            for index in range(number)
        ]
        for index, (kind, of, phase) in enumerate(plan, start=1):
            folder, status, different = root / f"kill-{index}", 0, list[str]()
            while status == 0:
                shutil.rmtree(folder, ignore_errors=True)
                when = moment_of(draw, of, kind, phase)
                status, different = try_one(of, when, folder)
                if kind == signal.SIGTERM or different:
                    break
            equal += not different
            where = f"{when.event.phase} {when.event.number}" if when.event else "at"
            print(
                f"{index:>4} {of.name:<9} {signal.Signals(kind).name:<8} {when.whom:<9} "
                f"{where + f' + {when.after_s:.3f} s':<30} {status:>6}  "
                f"{'bit for bit' if not different else ', '.join(different)}",
                flush=True,
            )
            shutil.rmtree(folder)
        print(f"\n{equal} of {len(plan)} runs end as the unbroken one, bit for bit")
    return 0 if equal == len(plan) else 1


if __name__ == "__main__":
    sys.exit(main())
