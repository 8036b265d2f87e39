"""A command continues when nobody reads its output, and starts without standard streams."""

import subprocess
import sys
from pathlib import Path

import pytest
from smallest_run import ROOT

PROGRAM = """
import os, sys
from r2gen.cli.streams import keep_streams
keep_streams()
print("one", flush=True)
sys.stdin.read(1)
for stream in (sys.stdout, sys.stderr):
    for _ in range(3):
        print("two " * 40_000, file=stream, flush=True)
opened = os.open("file", os.O_CREAT | os.O_WRONLY)
os.write(opened, b"written" if opened > 2 else b"mixed up")
subprocess_works = os.system("echo three; true") == 0
sys.exit(7 if subprocess_works else 8)
"""


def run_in_shell(redirections: str, folder: Path) -> int:
    line = f'exec {sys.executable} -c "$PROGRAM" {redirections}'
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PROGRAM": PROGRAM}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment).returncode


@pytest.mark.parametrize(
    "redirections",
    ["<&- >&- 2>&-", "</dev/null >&- 2>/dev/null", "<&- >/dev/null 2>&-", "</dev/null >/dev/full 2>/dev/full"],
)
def test_streams_may_be_closed_or_full(redirections: str, tmp_path: Path):
    assert run_in_shell(redirections, tmp_path) == 7
    assert (tmp_path / "file").read_text() == "written"


def test_a_reader_that_has_ended_ends_no_command(tmp_path: Path):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.close()
    assert process.wait() == 7
