"""Python programs of this repository, forked from this process, in which torch and the other libraries are imported.

A forked `python run.py`, its rank and the jobs of a sweep are processes with files and signals of their own; they share
the imports alone, which take longer than a small run. `python forked_python.py FD` is the server of forked_run.py, FD
the descriptor of its listening socket. Do not import this module in a test: a fork inherits one thread only.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# libgomp and torch read these once, when torch is imported: a fork cannot change them. Ranks have them too.
os.environ |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}

import wandb  # noqa: F401  a run imports it when it is needed
from hydra.core.global_hydra import GlobalHydra

from r2gen.errors import DEFECT, DONE
from r2gen.ranks.stop import die_with_parent
from r2gen.tasks import worker  # noqa: F401

warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # a program may be imported already
before_program: Callable[[str], None] = lambda program: None  # noqa: E731  called in each fork, with the file or module


class ForkedPopen(subprocess.Popen):
    """subprocess.Popen that forks a program of R2Gen; another command is started as usual."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        program = _program(args)
        if program is None:
            return super()._execute_child(args, executable, preexec_fn, *rest)
        _, _, cwd, env, _, _, _, *pipes, _, _, _, _, _, start_new_session, _ = rest
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            self._close_pipe_fds(*pipes)
            return None
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = pipes
        for number, descriptor in enumerate((p2cread, c2pwrite, errwrite)):
            if descriptor != -1:
                os.dup2(descriptor, number)
        for descriptor in (p2cwrite, c2pread, errread):
            if descriptor != -1:
                os.close(descriptor)
        if start_new_session:
            os.setsid()
        if preexec_fn is not None:
            preexec_fn()
        os.chdir(cwd or ".")
        _run(program, os.environ.copy() if env is None else env)


def _program(args: Sequence[str] | str) -> list[str] | None:
    """The file or module of R2Gen that a command runs, with its arguments; None of another command."""
    if isinstance(args, str) or args[0] != sys.executable:
        return None
    if args[1] == "-m" and args[2].startswith("r2gen."):
        return list(args[2:])
    return list(args[1:]) if args[1].endswith(".py") else None


def _run(program: list[str], environment: dict[str, str]) -> None:
    """Run a program and end this process with its status, as a new Python would."""
    status: Any = DONE
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = program
        GlobalHydra.instance().clear()  # a job of a sweep is forked from one that Hydra runs
        before_program(program[0])
        if program[0].endswith(".py"):
            sys.path.insert(0, str(Path(program[0]).parent))
            runpy.run_path(program[0], run_name="__main__")
        else:
            runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or DONE
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = DEFECT
    except BaseException:
        traceback.print_exc()
        status = DEFECT
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def serve(listener: socket.socket) -> None:
    """Answer each request with the pid of its process and, once that has ended, with its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    die_with_parent()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            request = json.loads(connection.makefile().readline())
            with Path(request.pop("stdout")).open("ab") as stdout, Path(request.pop("stderr")).open("ab") as stderr:
                process = ForkedPopen(**request, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
            connection.sendall(f"{process.pid}\n".encode())
            connection.sendall(f"{process.wait()}\n".encode())
            os._exit(0)
        connection.close()


subprocess.Popen = ForkedPopen  # type: ignore[misc]  # for run.py, which starts ranks, and for sweeps, which start run.py

if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
