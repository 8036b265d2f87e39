"""A run killed at random moments ends as the unbroken one; a full disk, a held lock and killed ranks are said."""

import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from smallest_run import ROOT, command

from r2gen.errors import UserError
from r2gen.runs.files import PARTIAL, write_whole
from r2gen.runs.folder import RunFolder
from r2gen.runs.resources import memory_ran_out, ran_out
from r2gen.train.checkpoint import BEST, LAST, Checkpoints, TrainState, point

SECRETS = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_notarealtokenatall"}
CONFIG = {
    "run_dir": "/run",
    "evaluate": {"batch_size": 6},
    "trainer": {"micro_batch_size": 12, "batch_size": 24, "workers": 2, "film_cache_mib": 64},
}


def test_runs_killed_at_random_moments_end_as_the_unbroken_one():
    """At two moments, in another part of a run each time that this is tested; benchmarks/kills.py does fifty."""
    typed = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "2", "--terms", "0", "--seed", str(time.time_ns())]
    done = subprocess.run(typed, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bit for bit") == 3, done.stdout
    assert done.stdout.count("SIGKILL") == 2, done.stdout
    assert "2 of 2 runs" in done.stdout


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
    """A process that holds a run folder's lock, and so does its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_lock_is_refused_naming_its_owner_and_dies_with_it(tmp_path: Path):
    process = locker(tmp_path)
    try:
        with pytest.raises(UserError, match=rf"in use by another command \(process {process.pid}\): wait for it"):
            RunFolder(tmp_path).lock()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
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
def test_a_folder_that_cannot_be_locked_is_refused_in_words(
    number: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        code = getattr(__import__("errno"), number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=words):
        RunFolder(tmp_path).lock()


def test_what_a_kill_left_half_written_is_gone_with_the_next_lock(tmp_path: Path):
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


def test_a_folder_half_cleared_is_not_taken_for_a_run_with_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    write_whole(tmp_path / "run.json", "{}")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).clear()
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "run.json").exists()


def test_neither_the_last_nor_the_best_is_pruned_through_a_link_or_behind_a_later_one(tmp_path: Path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    checkpoints = Checkpoints(tmp_path / "run", keep=1)
    for step in (1, 2, 3, 4, 5):
        (checkpoints.folder / f"step-{step:08d}").mkdir(parents=True)
    point(checkpoints.folder / BEST, "step-00000001")
    point(checkpoints.folder / LAST, "step-00000003")  # set back by hand
    checkpoints.record(TrainState(step=3), is_best=False)
    kept = {path.name for path in checkpoints.folder.glob("step-*")}
    assert kept == {f"step-0000000{step}" for step in (1, 3, 4, 5)}


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
    message = r"^error: run_dir=\S+/disk/run: the disk is full \(.* MiB free, .* MiB are needed\): make room"
    assert re.search(message, said, re.MULTILINE), said
    assert "Traceback" not in said
    words = done.stdout.split()
    assert words[:2] == ["first", "2"], done.stdout + done.stderr
    assert "last" in words
    assert not any(word.startswith(PARTIAL) for word in words)
    assert words[-2:] == ["again", "0"], (tmp_path / "again").read_text()
    assert "going on from step" in (tmp_path / "again").read_text()


def test_memory_that_runs_out_is_answered_with_the_option_to_halve(tmp_path: Path):
    def raised(file: str) -> BaseException:
        """A real allocation that fails, in code of that name."""
        try:
            exec(compile("import torch; torch.empty(2**60)", f"/site/r2gen/{file}", "exec"))
        except RuntimeError as error:
            return error
        raise AssertionError

    said = ran_out(raised("train/fit.py"), CONFIG)
    assert said is not None
    assert said.startswith("memory ran out in a training step: type trainer.micro_batch_size=6 (now 12; a step still")
    said = ran_out(raised("evaluate/generate.py"), CONFIG)
    assert said is not None
    assert "type evaluate.batch_size=3 (now 6" in said
    assert "quant=nf4" in str(ran_out(raised("lm/load.py"), CONFIG))
    of_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert str(memory_ran_out(of_gpu, CONFIG)).startswith("the GPU's memory ran out")
    worker = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert "lower trainer.workers (now 2)" in str(memory_ran_out(worker, CONFIG))
    assert ran_out(RuntimeError("shapes do not match"), CONFIG) is None


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
    assert "error: rank 0 was killed by signal 9, most often because the machine's" in broken["killed"]["said"]
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
