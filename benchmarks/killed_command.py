"""A whole command in real processes that is killed at a moment: the launcher and its rank, forked after the imports.

A moment is either a time, or an event: the nth time that the launcher or the rank opens, renames, links or removes
something in its run folder, as told by Python's audit hook. The process waits there, and is killed, or goes on and is
killed soon after: in the middle of what it writes then. `kills.py` draws them.
"""

import contextlib
import fcntl
import os
import runpy
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wandb  # noqa: F401  what a run imports later, imported once

from r2gen.config.compose import ROOT
from r2gen.launch import processes
from r2gen.tasks import worker

sys.path.insert(0, str(ROOT / "tests" / "support"))
from smallest_run import SMALLEST

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
    if "report.html" in name:
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
    """What processes.py starts, without a new Python: subprocess.Popen's poll, kill and send_signal."""

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
        processes.subprocess = SimpleNamespace(Popen=ForkedRank)  # type: ignore[assignment]
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
