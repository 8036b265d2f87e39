"""Kills runs at random moments and compares what the same command then ends with:  python benchmarks/kills.py [KILLS]

    python benchmarks/kills.py 50            50 kills by SIGKILL and 10 by SIGTERM, a row each
    python benchmarks/kills.py 5 --terms 0   fewer

Every run is the whole command in real processes, the launcher and its rank, on real files. They are forked from one
process that has made the imports, which would take most of the time. A moment is either a time, or an event: the nth
time that the launcher or the rank opens, renames, links or removes something in its run folder, as told by Python's
audit hook. The process waits there, and is killed, or goes on and is killed up to 40 ms later: in the middle of what
it writes then. A kill that comes after the run's end is drawn again. After the kill the same command is given again and
must end with the weights, reports and scores of the unbroken run, bit for bit, and leave no temporary file. Half of the
runs start from nothing, the others go on from a finished run of fewer epochs.
"""

import argparse
import contextlib
import fcntl
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wandb  # noqa: F401  what a run imports later, imported once
from safetensors.numpy import load_file

from r2gen import ranks, worker
from r2gen.provenance import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from smallest_run import SMALLEST

SMALL = [*SMALLEST, "data.train_studies=16", "data.val_studies=4", "data.test_studies=4", "trainer.schedule=constant",
         "trainer.save_every_steps=1", "evaluate.every=1", "run_dir=run"]  # fmt: skip
WATCHED = {"open", "os.rename", "os.remove", "os.symlink", "os.mkdir", "shutil.rmtree"}
STEP_S, LATEST_S = 0.04, 60.0
PHASES = ("start", "step", "checkpoint", "links", "validation", "scores", "page", "end")


@dataclass(frozen=True)
class Event:
    """The `number`th file event of the launcher or the rank."""

    process: str
    number: int
    phase: str


@dataclass(frozen=True)
class Moment:
    """When to send what to whom: at an event and some seconds after it, or at a time since the start."""

    signal: int
    event: Event | None
    after_s: float
    whom: str  # launcher, rank, both


@dataclass
class Told:
    """What the processes of a run said of themselves: who they are, and what they did to files."""

    pids: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)


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
    if ".partial-page" in name:
        return "page"
    if name == "train.jsonl":
        return "step"
    return "end" if "validation" in seen else "start"


class Watch:
    """In a process of a run: tells each file event, and waits to be killed at one."""

    def __init__(self, process: str, pipe: int, moment: Moment | None) -> None:
        self.process, self.pipe, self.count, self.pid = process, pipe, 0, os.getpid()
        event = moment.event if moment is not None else None
        mine = event is not None and event.process == process
        self.number = event.number if event is not None and mine else -1
        self.tell("pid", str(os.getpid()))
        sys.addaudithook(self.hook)

    def tell(self, *words: str) -> None:
        os.write(self.pipe, ("\t".join([self.process, *words]) + "\n").encode())

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WATCHED or "/run/" not in str(arguments[:2]) or os.getpid() != self.pid:  # a rank has its own
            return
        self.tell(event, *map(str, arguments[:2]))
        if self.count == self.number:
            self.tell("here", "")
            os.kill(os.getpid(), signal.SIGSTOP)  # until the killer has read that
        self.count += 1


class ForkedRank:
    """What ranks.py starts, without a new Python: subprocess.Popen's poll, kill and send_signal."""

    pipe = -1
    moment: Moment | None = None

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.environ.clear()
                os.environ.update(env)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                    signal.signal(number, signal.SIG_DFL)
                os.setsid()
                worker.die_with_parent()
                Watch("rank", self.pipe, self.moment)
                status = worker.main(Path(command[-1]))
            finally:
                sys.stdout.flush()
                os._exit(status)

    def poll(self) -> int | None:
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(overrides: list[str], pipe: int, moment: Moment | None, folder: Path) -> int:
    """Fork a process that is `python run.py ...` in the folder; gives its pid."""
    pid = os.fork()
    if pid:
        return pid
    status: Any = 1
    try:
        os.chdir(folder)
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        ForkedRank.pipe, ForkedRank.moment = pipe, moment
        ranks.subprocess = SimpleNamespace(Popen=ForkedRank)  # type: ignore[assignment]
        Watch("launcher", pipe, moment)
        sys.argv = ["run.py", *overrides]
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        os._exit(status)


def command(overrides: list[str], folder: Path, moment: Moment | None = None) -> tuple[int, Told]:
    """Run a command to its end, or to its kill at a moment; gives its status and what it told."""
    reading, writing = os.pipe()
    pid, began, told, sent, rest = start(overrides, writing, moment, folder), time.monotonic(), Told(), False, b""
    os.close(writing)
    os.set_blocking(reading, False)
    due = began + moment.after_s if moment is not None and moment.event is None else None
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                *lines, rest = (rest + os.read(reading, 1 << 16)).split(b"\n")
                for process, event, path, *_ in (line.decode().split("\t") for line in lines):
                    if event == "pid":
                        told.pids[process] = int(path)
                    elif event == "here" and moment is not None:
                        wait_until_stopped(told.pids[process])
                        due = time.monotonic() + moment.after_s
                        if moment.after_s:
                            os.kill(told.pids[process], signal.SIGCONT)
                    else:
                        told.events.append((process, event, path))
            if moment is not None and not sent and due is not None and time.monotonic() >= due:
                sent = True
                for process in ("rank", "launcher"):
                    if process in told.pids and moment.whom in (process, "both"):
                        with contextlib.suppress(ProcessLookupError):  # it has just ended
                            os.kill(told.pids[process], moment.signal)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), told
            if time.monotonic() > began + LATEST_S:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.0005)
    finally:
        os.close(reading)


def wait_until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        time.sleep(0.0001)


def wait_for_lock(run_dir: Path) -> None:
    """Until the kernel has taken down the last process of a killed tree."""
    deadline = time.monotonic() + 10
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
    weights = {name: {key: tensor.tobytes() for key, tensor in
                      load_file(run_dir / "checkpoints" / name / "trainable.safetensors").items()}
               for name in ("last", "best")}  # fmt: skip
    log = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    return {
        **weights,
        "reports": [json.loads(line)["report"] for split in ("val", "test")
                    for line in (run_dir / f"predictions/{split}.greedy.jsonl").read_text().splitlines()[1:]],
        "scores": json.loads((run_dir / "metrics.json").read_text())["splits"],
        "log": [(line["event"], line["step"], line.get("loss"), line.get("scores")) for line in log],
        "status": json.loads((run_dir / "run.json").read_text())["status"],
        "page": '"status":"finished"' in (run_dir / "report.html").read_text(),
        "files": sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("*")),
    }  # fmt: skip


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
        plan = [(kind, (whole, longer)[index % 2], phases[index // 2 % len(phases)])
                for kind, number in kinds for index in range(number)]  # fmt: skip
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
            print(f"{index:>4} {of.name:<9} {signal.Signals(kind).name:<8} {when.whom:<9} "
                  f"{where + f' + {when.after_s:.3f} s':<30} {status:>6}  "
                  f"{'bit for bit' if not different else ', '.join(different)}", flush=True)  # fmt: skip
            shutil.rmtree(folder)
        print(f"\n{equal} of {len(plan)} runs end as the unbroken one, bit for bit")
    return 0 if equal == len(plan) else 1


if __name__ == "__main__":
    sys.exit(main())
