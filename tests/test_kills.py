"""A run that is killed, or whose disk is full, resumes to the result of an unbroken run; its files stay private."""

import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from smallest_run import ROOT, command

from r2gen.runs.files import PARTIAL

SECRETS = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_notarealtokenatall"}


def test_runs_killed_at_random_moments_end_as_the_unbroken_one():
    """At two moments, in another part of a run each time that this is tested; benchmarks/kills.py does fifty."""
    typed = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "2", "--terms", "0", "--seed", str(time.time_ns())]
    done = subprocess.run(typed, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bit for bit") == 3, done.stdout
    assert done.stdout.count("SIGKILL") == 2, done.stdout
    assert "2 of 2 runs" in done.stdout


FULL = """
set -e
mount -t tmpfs -o size=16m tmpfs "$1"
cd "$1"; shift
"$@" > ../first 2>&1 &
while ! [ -e run/checkpoints/last ]; do sleep 0.02; done
head -c 16m /dev/zero > filler 2> /dev/null || true
status=0; wait $! || status=$?
echo "first $status"
ls -A run/checkpoints
rm filler
"$@" > ../again 2>&1 || status=$?
echo "again $?"
"""


def test_a_disk_that_fills_up_is_said_and_the_same_command_goes_on(tmp_path: Path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here: a small disk cannot be mounted")
    disk = tmp_path / "disk"
    disk.mkdir()
    typed = command("run_dir=run", "trainer.epochs=5", "evaluate.every=5", "trainer.save_every_steps=1")
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", FULL, "bash", str(disk), *typed], capture_output=True, text=True
    )
    said = (tmp_path / "first").read_text()
    message = r"^error: run_dir=\S+/disk/run: the disk is full \(.* MiB free, .* MiB needed\)\. Free some space"
    assert re.search(message, said, re.MULTILINE), said
    assert "Traceback" not in said
    words = done.stdout.split()
    assert words[:2] == ["first", "2"], done.stdout + done.stderr
    assert "last" in words
    assert not any(word.startswith(PARTIAL) for word in words)
    assert words[-2:] == ["again", "0"], (tmp_path / "again").read_text()
    assert "going on from step" in (tmp_path / "again").read_text()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What runs that were broken on purpose ended with: status and words by name, and their folder."""
    folder = tmp_path_factory.mktemp("broken")
    typed = [sys.executable, str(ROOT / "tests" / "support" / "broken_runs.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}", **SECRETS}
    done = subprocess.run(typed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line for line in lines} | {"folder": folder}


def test_a_killed_rank_is_named(broken: dict[str, Any]):
    assert broken["killed"]["status"] == 2
    assert "error: rank 0 was killed by signal 9, most often because the machine ran" in broken["killed"]["said"]
    assert broken["again"]["status"] == 0


def test_torn_scores_of_a_finished_run_are_made_again(broken: dict[str, Any]):
    assert broken["torn"]["status"] == 0, broken["torn"]["said"]
    assert "its metrics.json is torn or gone: it is scored again" in broken["torn"]["said"]
    made, whole = (
        json.loads((broken["folder"] / f"run/run/{name}.json").read_text())["splits"] for name in ("metrics", "whole")
    )
    assert made == whole


def test_no_file_of_a_run_holds_a_secret_or_is_readable_by_others(broken: dict[str, Any]):
    files = list((broken["folder"] / "run" / "run").rglob("*"))
    assert len(files) > 15
    for path in [path for path in files if not path.is_symlink()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert path.is_dir() or not any(value.encode() in path.read_bytes() for value in SECRETS.values()), path
    assert not any(value in broken[name]["said"] for value in SECRETS.values() for name in ("again", "killed"))
