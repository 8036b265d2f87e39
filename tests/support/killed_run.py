"""Kill `python run.py` at a chosen moment, and compare what the same command then ends with.

A run is the whole command in real processes, the launcher and its ranks, on real files (forked_python.py). A moment is
either a time, or an event: the nth time that the launcher or the rank opens, renames, links or removes something in its
run folder, as Python's audit hook reports. The process stops there and is killed, or it continues and is killed soon
after, in the middle of a write.
"""

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked_python
from safetensors.numpy import load_file
from smallest_run import SMALLEST
from smallest_run import command as run_py

from r2gen.launch import supervision

SMALL = [
    *SMALLEST,
    "data.train_studies=16",
    "data.val_studies=4",
    "data.test_studies=4",
    "trainer.schedule=constant",
    "trainer.save_every_steps=1",
    "evaluate.every=1",
    "run_dir=run",
]
WATCHED = {"open", "os.rename", "os.remove", "os.symlink", "os.mkdir", "shutil.rmtree"}
STEP_S = 0.04
RANKS = ("rank 0", "rank 1")
TIMEOUT_S = 10
TWO_RANKS = [*SMALL, "trainer.devices=2", f"trainer.timeout_s={TIMEOUT_S}"]
HANG_S = 600.0
PHASES = ("start", "step", "checkpoint", "links", "validation", "scores", "page", "end")


@dataclass(frozen=True)
class Event:
    """The `number`th file event of the launcher or a rank."""

    process: str
    number: int
    phase: str


@dataclass(frozen=True)
class Moment:
    """When to send a signal to a process: at an event and some seconds after it, or at a time since the start."""

    signal: int
    event: Event | None
    after_s: float
    target: str  # launcher, rank, both; of two ranks: rank 0, rank 1


@dataclass
class Record:
    """What the processes of a run reported: their pids and their file events."""

    pids: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    seconds_to_end: float = 0.0  # since the signal was sent


def phase_of(event: str, path: str, seen: list[str]) -> str:
    """The part of a run that a file event belongs to."""
    name = path.rpartition("/run/")[2]
    if ".partial-step" in name and event != "os.rename":
        return "checkpoint"
    if name.startswith("checkpoints"):
        return "links"
    if name.startswith("predictions"):
        return "validation"
    if "metrics.json" in name or "nearest.json" in name:
        return "scores"
    if "report.html" in name:
        return "page"
    if name == "train.jsonl":
        return "step"
    return "end" if "validation" in seen else "start"


class Watch:
    """In a process of a run: report each file event through a pipe, and stop at one of them to be killed."""

    def __init__(self, process: str, pipe: int, moment: Moment | None) -> None:
        self.process, self.pipe, self.count, self.pid = process, pipe, 0, os.getpid()
        event = moment.event if moment is not None else None
        mine = event is not None and event.process == process
        self.number = event.number if event is not None and mine else -1
        self.report("pid", str(os.getpid()))
        sys.addaudithook(self.hook)

    def report(self, *words: str) -> None:
        os.write(self.pipe, ("\t".join([self.process, *words]) + "\n").encode())

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        # A forked rank inherits the launcher's hook, and has its own.
        if event not in WATCHED or "/run/" not in str(arguments[:2]) or os.getpid() != self.pid:
            return
        self.report(event, *map(str, arguments[:2]))
        if self.count == self.number:
            self.report("here", "")
            os.kill(os.getpid(), signal.SIGSTOP)  # until the killer has read that
        self.count += 1


def run_until(overrides: list[str], folder: Path, moment: Moment | None = None) -> tuple[int, Record]:
    """Run a command to its end, or to its kill at a moment; return its exit status and its events.

    Its output is in FOLDER/output. Raises TimeoutError with that output where the command does not end.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def watch(program: str) -> None:
        rank = f"rank {os.environ['RANK']}" if os.environ.get("WORLD_SIZE") == "2" else "rank"
        Watch("launcher" if program.endswith("run.py") else rank, writing, moment)

    forked_python.before_program = watch
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            run_py(*overrides, smallest=False), cwd=folder, stdout=output, stderr=output, pass_fds=(writing,)
        )
    forked_python.before_program = lambda program: None
    os.close(writing)
    began, record, sent, rest = time.monotonic(), Record(), False, b""
    sent_at = began
    due = began + moment.after_s if moment is not None and moment.event is None else None
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                *lines, rest = (rest + os.read(reading, 1 << 16)).split(b"\n")
                for name, event, path, *_ in (line.decode().split("\t") for line in lines):
                    if event == "pid":
                        record.pids[name] = int(path)
                    elif event == "here" and moment is not None:
                        _wait_until_stopped(record.pids[name])
                        due = time.monotonic() + moment.after_s
                        if moment.after_s:
                            os.kill(record.pids[name], signal.SIGCONT)
                    else:
                        record.events.append((name, event, path))
            if moment is not None and not sent and due is not None and time.monotonic() >= due:
                sent, sent_at = True, time.monotonic()
                for name in ("rank", "rank 0", "rank 1", "launcher"):
                    if name in record.pids and moment.target in (name, "both"):
                        with contextlib.suppress(ProcessLookupError):  # it has just ended
                            os.kill(record.pids[name], moment.signal)
                            if moment.signal not in (signal.SIGKILL, signal.SIGSTOP):  # a stopped process handles none
                                os.kill(record.pids[name], signal.SIGCONT)
            if process.poll() is not None:
                record.seconds_to_end = time.monotonic() - sent_at
                return process.returncode, record
            if time.monotonic() > began + HANG_S:
                process.kill()
                raise TimeoutError(f"no end within {HANG_S:.0f} s; output:\n{(folder / 'output').read_text()}")
            time.sleep(0.0005)
    finally:
        os.close(reading)


def run_to_end(overrides: list[str], folder: Path) -> Record:
    """Run a command that must succeed and return its events; a failure shows its status and output."""
    status, record = run_until(overrides, folder)
    assert status == 0, f"`run.py` ended with status {status}; output:\n{(folder / 'output').read_text()}"
    return record


def _wait_until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        time.sleep(0.0001)


def wait_for_lock(run_dir: Path) -> None:
    """Wait until the kernel has ended the last process of a killed tree."""
    deadline = time.monotonic() + HANG_S
    while (run_dir / ".lock").exists():
        with (run_dir / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.001)


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
    """A command, what its folder contains before it, and the outcome when nothing kills it."""

    name: str
    overrides: list[str]
    before: Path | None
    events: list[Event]
    seconds: float
    outcome: dict[str, Any]

    def kill(self, moment: Moment, folder: Path) -> tuple[int, list[str]]:
        """The status of the killed command, and what differs after the same command again."""
        copy_run(self.before, folder)
        status, record = run_until(self.overrides, folder, moment)
        wait_for_lock(folder / "run")
        wrong = wrong_end(moment, status, record, (folder / "output").read_text()) if self.name == "two ranks" else []
        if wrong:
            return status, wrong
        again, _ = run_until(self.overrides, folder)
        if again != 0:
            return status, [f"status {again}, output: {(folder / 'output').read_text()[-2000:]}"]
        new = outcome(folder / "run")
        return status, [key for key in self.outcome if new[key] != self.outcome[key]]

    def draw_rank_moment(self, draw: random.Random, kind: int) -> Moment:
        """A moment at which one of two ranks gets a signal: after a file event, or at the event if it is its own."""
        event = draw.choice(self.events)
        if event.process == "launcher" or draw.random() < 0.5:
            return Moment(kind, event, draw.uniform(1e-4, STEP_S), draw.choice(RANKS))
        return Moment(kind, event, 0.0, event.process)

    def draw_moment(self, draw: random.Random, kind: int, phase: str | None) -> Moment:
        """A moment of a phase, or any time if it is None: the event, the delay and the target are drawn."""
        term = kind == signal.SIGTERM  # a process must be running to handle it
        if phase is None:
            return Moment(kind, None, draw.uniform(0, self.seconds), "launcher" if term else "both")
        event = draw.choice([event for event in self.events if event.phase == phase])
        after_s = draw.uniform(1e-4, STEP_S) if term or draw.random() < 0.5 else 0.0
        target = "launcher" if term or event.process == "launcher" else draw.choice(["launcher", "rank", "both"])
        return Moment(kind, event, after_s, target)


def wrong_end(moment: Moment, status: int, record: Record, output: str) -> list[str]:
    """What is wrong with the end of a job after one of its two ranks got a signal."""
    if status == 0:
        return []  # the signal came after the end of that rank's work
    errors, wrong = re.findall(r"^error: .*$", output, re.MULTILINE), list[str]()
    polite = -moment.signal in supervision.PASSED_ON
    if status != (3 if polite else 1 if moment.signal in supervision.CRASHES else 2):
        wrong.append(f"status {status}")
    if record.seconds_to_end > TIMEOUT_S + 10:
        wrong.append(f"{record.seconds_to_end:.0f} s to the end")
    if len(errors) != (0 if polite else 1) or not all(moment.target in error for error in errors):
        wrong.append(f"messages: {errors}")
    if "Traceback" in output:
        wrong.append(f"output: {output[-2000:]}")
    return wrong


def scenario(name: str, overrides: list[str], folder: Path, before: Path | None) -> Scenario:
    copy_run(before, folder)
    began = time.monotonic()
    record = run_to_end(overrides, folder)
    seconds, counts, seen, events = time.monotonic() - began, Counter[str](), list[str](), list[Event]()
    for process, event, path in record.events:
        seen.append(phase_of(event, path, seen))
        events.append(Event(process, counts[process], seen[-1]))
        counts[process] += 1
    return Scenario(name, overrides, before, events, seconds, outcome(folder / "run"))


def copy_run(before: Path | None, folder: Path) -> None:
    folder.mkdir()
    if before is not None:
        shutil.copytree(before / "run", folder / "run", symlinks=True)
