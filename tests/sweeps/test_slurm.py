"""Jobs through submitit: with its local executor, also preempted and queued again, and the sbatch file for SLURM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from composed import composed

pytest.importorskip("submitit")
from forked_run import run
from smallest_run import ROOT

from r2gen.errors import DONE, FIXABLE, STOPPED
from r2gen.sweeps.slurm import SlurmSlots

CONFIG = composed("trainer.devices=2", "trainer.device=cpu", "trainer.micro_batch_size=1")
SAVES_AND_RESUMES = """
import pathlib, signal, sys, time
saved = pathlib.Path("saved")
if saved.exists():
    sys.exit(print("resumed"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(saved.touch() or 3))
print("up", flush=True)
time.sleep(60)
"""


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_preempted_job_saves_a_checkpoint_and_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    slots = SlurmSlots(tmp_path / "slurm", cluster="local", n_jobs=1, options={"timeout_min": 5})
    log = tmp_path / "log"
    job = slots.start(CONFIG, [sys.executable, "-c", SAVES_AND_RESUMES], log, running=0)
    assert slots.start(CONFIG, ["true"], tmp_path / "other", running=1) is None, "n_jobs"
    wait_for(lambda: "up" in log.read_text())
    os.kill(task_of(int(job.queue_id)), signal.SIGUSR2)  # what SLURM sends before it takes the node
    wait_for(lambda: job.poll() is not None)
    assert job.poll() == DONE
    assert (tmp_path / "saved").is_file()
    assert log.read_text().splitlines() == ["up", "resumed"]


def test_a_cancelled_job_saves_a_checkpoint_and_is_not_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """scancel sends SIGTERM to every process of a job."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"
    slots = SlurmSlots(tmp_path / "slurm", cluster="local", n_jobs=1, options={"timeout_min": 5})
    job = slots.start(CONFIG, [sys.executable, "-c", SAVES_AND_RESUMES], log, running=0)
    wait_for(lambda: "up" in log.read_text())
    task = task_of(int(job.queue_id))
    for process in (task, task_of(task)):
        os.kill(process, signal.SIGTERM)
    wait_for(lambda: job.poll() is not None)
    assert job.poll() == STOPPED
    assert (tmp_path / "saved").is_file()
    assert log.read_text().splitlines() == ["up"]


def test_the_launcher_skips_jobs_of_several_machines(tmp_path: Path):
    done = run(
        "-m",
        "trainer.nodes=2",
        "tune=shallow,nothing",
        "hydra/launcher=slurm",
        "hydra.launcher.cluster=local",
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
    )
    assert done.returncode == FIXABLE, done.stderr
    several, unknown = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    assert several["state"] == "skipped"
    assert several["reason"].startswith("trainer.nodes=2: a launcher gives each job of a sweep GPUs of one machine")
    assert unknown["state"] == "failed"


def task_of(controller: int) -> int:
    """The process that another started: submitit's task that of its controller, the command that of its task."""
    children = Path(f"/proc/{controller}/task/{controller}/children")
    wait_for(lambda: children.read_text().strip())
    return int(children.read_text().split()[0])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with those of SLURM's commands that are used here. The file `state` holds the job's state for sacct."""
    scripts = {
        "sbatch": "echo Submitted batch job 4711",
        "srun": "",
        "sacct": f"echo 'JobID|State|NodeList'; echo \"4711|$(cat {tmp_path}/state)|node1\"",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_sbatch_file_and_a_job_adopted_by_the_next_command(cluster: Path):
    options = {
        "timeout_min": 600,
        "cpus_per_task": 8,
        "mem_gb": 64,
        "slurm_partition": "gpu",
        "slurm_additional_parameters": {"requeue": True},
    }
    slots = SlurmSlots(cluster / "slurm", cluster="slurm", n_jobs=None, options=options)
    config = composed("trainer.devices=2", "trainer.micro_batch_size=1")
    job = slots.start(config, ["true"], cluster / "log", running=0)
    assert job.queue_id == "4711"
    sbatch = (cluster / "slurm" / "4711_submission.sh").read_text()
    for line in (
        "--gpus-per-node=2",
        "--time=600",
        "--cpus-per-task=8",
        "--mem=64GB",
        "--partition=gpu",
        "--signal=USR2@90",
        "--nodes=1",
        "--requeue",
        "--job-name=r2gen",
    ):
        assert f"#SBATCH {line}\n" in sbatch

    (cluster / "state").write_text("RUNNING")
    later = SlurmSlots(cluster / "slurm", cluster="slurm", n_jobs=None, options=options)
    assert later.adopt("4711").poll() is None, "the next command of the same sweep adopts it and queues no other"
    (cluster / "state").write_text("CANCELLED")
    assert later.adopt("4711") is None


def test_two_signals_at_once_are_one_stop_request(tmp_path: Path):
    """SLURM signals the command and its ranks, and the command passes its signal on to them."""
    rank = (
        "from r2gen.ranks.stop import StopRequest; import signal; stop = StopRequest()\n"
        "for _ in range(2): signal.raise_signal(signal.SIGTERM)\n"
        "print(stop.requested)"
    )
    done = subprocess.run([sys.executable, "-c", rank], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "True\n")


def test_the_launcher_on_the_command_line_queues_its_jobs(tmp_path: Path):
    words = ("-m", "hydra/launcher=slurm", "hydra.launcher.cluster=local", "task=audit", "audit.films=0", "out=made")
    done = run(*words, cwd=tmp_path, smallest=False)
    assert done.returncode == DONE, done.stdout + done.stderr
    assert (tmp_path / "made" / "audit.json").is_file()
