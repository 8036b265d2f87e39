"""`python run.py` as smallest_run.py runs it, in a second instead of ten: forked from a process with torch imported.

Every test process has one such server (forked_python.py), started when it is first needed. smallest_run.py is for the
tests in which the start of Python itself matters.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from smallest_run import ROOT, command

TIMEOUT_S = 600  # against a hang
_FOLDER = tempfile.TemporaryDirectory()  # of the socket; removed when this process ends


class ForkedProcess:
    """A running Python program, with the part of subprocess.Popen that tests use."""

    def __init__(self, args: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.args = args
        self.returncode: int | None = None
        self.output = tempfile.TemporaryDirectory()
        self.files = {name: Path(self.output.name) / name for name in ("stdout", "stderr")}
        self.received = b""
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(_server())
        request = {"args": args, "cwd": str(cwd), "env": dict(os.environ) if env is None else env}
        request |= {name: str(file) for name, file in self.files.items()}
        self.connection.sendall(json.dumps(request).encode() + b"\n")
        self.pid = int(self._answer(TIMEOUT_S))

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        if self.returncode is None:
            self.returncode = int(self._answer(timeout))
            self.connection.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0.001)
        except TimeoutError:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def completed(self) -> subprocess.CompletedProcess[str]:
        """The status and the output, once the process has ended."""
        return subprocess.CompletedProcess(
            self.args, self.wait(), *(file.read_text(encoding="utf-8") for file in self.files.values())
        )

    def _answer(self, timeout: float) -> str:
        """The next line that the server sends."""
        self.connection.settimeout(timeout)
        while b"\n" not in self.received:
            part = self.connection.recv(64)
            assert part, "the server of forked processes has ended"
            self.received += part
        line, _, self.received = self.received.partition(b"\n")
        return line.decode()


def start(*overrides: str, cwd: Path, smallest: bool = True) -> ForkedProcess:
    """Start `python run.py OVERRIDES` in a folder."""
    return ForkedProcess(command(*overrides, smallest=smallest), cwd=cwd)


def run(*overrides: str, cwd: Path, smallest: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python run.py OVERRIDES` in a folder to its end."""
    return start(*overrides, cwd=cwd, smallest=smallest).completed()


def run_script(file: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python FILE ARGUMENTS` to its end."""
    return ForkedProcess([sys.executable, str(file), *arguments], cwd=ROOT, env=env).completed()


@cache
def _server() -> str:
    """Start the server and return the path of its socket."""
    path = str(Path(_FOLDER.name) / "socket")
    python_path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "support" / "forked_python.py"), str(listener.fileno())],
            env={**os.environ, "PYTHONPATH": python_path},
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return path
