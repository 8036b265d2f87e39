"""One command at a time locks a run folder; partly written files of a killed command are removed."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from smallest_run import ROOT

from r2gen.errors import UserError
from r2gen.runs.files import PARTIAL, write_whole
from r2gen.runs.folder import RunFolder

LOCKER = """
import os, sys, time
from pathlib import Path
from r2gen.runs.folder import RunFolder
from r2gen.ranks.stop import die_with_parent
folder = RunFolder(Path(sys.argv[1]))
folder.lock()
own = os.getpid()
if os.fork() == 0:  # a rank, which inherits the lock
    die_with_parent(own)
    time.sleep(60)
print("locked", flush=True)
time.sleep(60)
"""


def locker(folder: Path) -> "subprocess.Popen[str]":
    """A process that has locked a run folder, with a child that inherits the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_locked_folder_is_refused_with_the_process_and_free_when_that_ends(tmp_path: Path):
    process = locker(tmp_path)
    try:
        with pytest.raises(UserError, match=rf"in use by another command \(process {process.pid}\): wait for it"):
            RunFolder(tmp_path).lock()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while True:  # the kernel takes the child down at once, but not in the same instant
        try:
            RunFolder(tmp_path).lock()
            break
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "words"), [("ENOLCK", "without locks"), ("EROFS", "read-only"), ("EACCES", "read-only")]
)
def test_a_folder_that_cannot_be_locked_is_refused_with_the_reason(
    number: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        code = getattr(__import__("errno"), number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=words):
        RunFolder(tmp_path).lock()


def test_partly_written_files_are_removed_with_the_next_lock(tmp_path: Path):
    write_whole(tmp_path / "run.json", "{}")
    half = [
        tmp_path / f"{PARTIAL}run.json.7",
        tmp_path / "predictions" / f"{PARTIAL}val.jsonl.7",
        tmp_path / "checkpoints" / f"{PARTIAL}step-00000009" / "engine" / "file",
    ]
    for file in half:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
    RunFolder(tmp_path).lock()
    assert {path.name for path in tmp_path.rglob("*")} == {".lock", "run.json", "predictions", "checkpoints"}


def test_a_partly_cleared_folder_has_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    write_whole(tmp_path / "run.json", "{}")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).clear()
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "run.json").exists()
