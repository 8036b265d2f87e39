"""Several machines: the checks before anything starts, and the command that starts every rank."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from r2gen.config.trainer import TrainerConfig
from r2gen.errors import UserError
from r2gen.launch import machines

SHOW = ["python3", "-c", "import os, sys, json; print(json.dumps([sys.argv[1], dict(os.environ)]))", "job.yaml"]
# Replaces srun: runs the command once per task, on this machine.
SRUN = """#!/bin/sh
while [ "$1" != sh ]; do shift; done
for number in 0 1 2 3; do SLURM_PROCID=$number SLURM_LOCALID=$((number % 2)) "$@" || exit $?; done
"""


def trainer(hostfile: Path | None) -> TrainerConfig:
    return TrainerConfig(nodes=2, devices=2, hostfile=None if hostfile is None else str(hostfile))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a slots=2\n", "names fewer machines than trainer.nodes=2"),
        ("a slots=2\nb\n", "line 2: write HOST slots=GPUS"),
        ("# two\na slots=2\n\nb slots=1 # small\n", "line 4: b has 1 slots, fewer than trainer.devices=2"),
        (None, "cannot be read"),
    ],
)
def test_an_unusable_hostfile_is_refused_with_its_line(tmp_path: Path, lines: str | None, message: str):
    file = tmp_path / "hosts"
    if lines is not None:
        file.write_text(lines)
    with pytest.raises(UserError, match=message):
        machines.check(trainer(file))


def test_several_machines_need_a_hostfile_and_pdsh_or_a_large_enough_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "hosts"
    file.write_text("a slots=2\nb slots=8\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="pdsh, which is not installed"):
        machines.check(trainer(file))
    with pytest.raises(UserError, match=r"give trainer\.hostfile=FILE"):
        machines.check(trainer(None))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NNODES", "1")
    with pytest.raises(UserError, match=r"has 1 node\(s\)"):
        machines.check(trainer(None))
    monkeypatch.setenv("SLURM_NNODES", "2")
    machines.check(trainer(None))


def test_every_task_of_slurm_becomes_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    command = machines.launcher_command(trainer(None), SHOW, settings={"HF_HUB_OFFLINE": "1"}, port=4567)
    assert command[:5] == ["srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--kill-on-bad-exit=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ranks = [json.loads(line) for line in done.stdout.splitlines()]
    numbers = [(environment["RANK"], environment["LOCAL_RANK"]) for _, environment in ranks]
    assert numbers == [("0", "0"), ("1", "1"), ("2", "0"), ("3", "1")]
    for argument, environment in ranks:
        assert argument == "job.yaml"
        assert (environment["WORLD_SIZE"], environment["MASTER_PORT"]) == ("4", "4567")
        assert environment["HF_HUB_OFFLINE"] == "1"
        assert environment["NCCL_SOCKET_IFNAME"] == "ib0"
        assert environment["MASTER_ADDR"]
