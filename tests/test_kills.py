"""A run that is killed, or whose disk is full, resumes to the result of an unbroken run; its files stay private."""

import json
import os
import re
import stat
import subprocess
from typing import Any

import pytest
from forked_run import run_script
from smallest_run import ROOT

from r2gen.runs.files import PARTIAL

SECRETS = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_notarealtokenatall"}


def test_runs_killed_at_random_moments_end_as_the_unbroken_one(seed: int):
    """At two moments, drawn again in every run of the test; benchmarks/kills.py draws thirty."""
    done = run_script(ROOT / "benchmarks" / "kills.py", "2", "--terms", "0", "--ranks", "0", "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bit for bit") == 3, done.stdout
    assert done.stdout.count("SIGKILL") == 2, done.stdout
    assert "2 of 2 runs" in done.stdout


@pytest.mark.slow
def test_a_signal_to_one_of_two_ranks_ends_the_command_in_time_with_one_message(seed: int):
    done = run_script(ROOT / "benchmarks" / "kills.py", "0", "--terms", "0", "--ranks", "3", "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 runs" in done.stdout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What runs that were broken on purpose ended with: status and output by name, and their folder."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "disk").mkdir()
    namespaces = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    disk = [str(folder / "disk")] if namespaces else []
    script = ROOT / "tests" / "support" / "broken_runs.py"
    done = run_script(script, str(folder / "run"), *disk, env={**os.environ, **SECRETS})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line for line in lines} | {"folder": folder / "run" / "run"}


def test_a_killed_rank_is_named(broken: dict[str, Any]):
    assert broken["killed"]["status"] == 2
    assert "error: rank 0 was killed by signal 9, most often because the machine ran" in broken["killed"]["output"]
    assert broken["again"]["status"] == 0, broken["again"]["output"]


def test_torn_scores_of_a_finished_run_are_computed_again(broken: dict[str, Any]):
    assert broken["torn"]["status"] == 0, broken["torn"]["output"]
    assert "its metrics.json is damaged or missing: it is scored again" in broken["torn"]["output"]
    computed, whole = (
        json.loads((broken["folder"] / f"{name}.json").read_text())["splits"] for name in ("metrics", "whole")
    )
    assert computed == whole


def test_no_file_of_a_run_contains_a_secret_or_is_readable_by_others(broken: dict[str, Any]):
    files = list(broken["folder"].rglob("*"))
    assert len(files) > 15
    for path in [path for path in files if not path.is_symlink()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert path.is_dir() or not any(value.encode() in path.read_bytes() for value in SECRETS.values()), path
    assert not any(value in broken[name]["output"] for value in SECRETS.values() for name in ("again", "killed"))


def test_a_full_disk_is_named_and_the_same_command_resumes_when_there_is_room(broken: dict[str, Any]):
    if "full" not in broken:
        pytest.skip("no user namespaces on this machine: a small disk cannot be mounted")
    full, again = (broken[name] for name in ("full", "room again"))
    message = r"^error: run_dir=\S+/disk/run: the disk is full \(.* MiB free, .* MiB needed\)\. Free some space"
    assert re.search(message, full["output"], re.MULTILINE), full["output"]
    assert "Traceback" not in full["output"]
    assert full["status"] == 2
    checkpoints = again["output"].partition("\n")[0].split()
    assert "last" in checkpoints
    assert not any(name.startswith(PARTIAL) for name in checkpoints)
    assert again["status"] == 0, again["output"]
    assert "resuming from step" in again["output"]
