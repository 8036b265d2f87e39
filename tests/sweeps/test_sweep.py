"""Sweeps from the command line: each job is done or has its reason, and only what is missing runs again."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from composed import composed
from forked_run import run, start
from omegaconf import OmegaConf
from smallest_run import ROOT
from tiers import fast_only

from r2gen.sweeps.cells import Cell
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.sweep import refuse_shared_folders, sweep_dir

SWEEPS = sorted(file.stem for file in (ROOT / "sweeps").glob("*.yaml") if not file.stem.startswith("optuna_"))
QUICK = ["trainer.max_steps=1", "metrics=[bleu]", "evaluate.best=bleu_4", "evaluate.splits=[val]", "evaluate.every=9"]


def jobs_of(folder: Path) -> list[dict]:
    return json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]


@pytest.mark.parametrize("name", fast_only(SWEEPS, "decoding", "seeds"))
def test_every_sweep_file_states_one_question_and_composes(name: str, tmp_path: Path):
    header = [line for line in (ROOT / "sweeps" / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert header[1].endswith("?") or "? " in header[1]
    assert f"# Command:  python run.py +sweeps={name}" in "\n".join(header)
    assert any(line.startswith("# Cost: ") for line in header)
    done = run(f"+sweeps={name}", "task=compose", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3
    assert "failed:" not in done.stdout
    assert not list(tmp_path.iterdir()), "nothing was started or made"


def test_a_dry_run_prints_a_line_for_each_language_model(tmp_path: Path):
    done = run("lm.path=/nope", "-m", "lm=glob(*)", "task=compose", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(rows) == {f"lm={file.stem}" for file in (ROOT / "conf" / "lm").glob("*.yaml")}
    assert rows["lm=llama2"].endswith("(new)")
    assert rows["lm=tiny"].startswith("skipped: lm.architecture draws random weights, lm.path")
    assert not list(tmp_path.iterdir()), "nothing was started or made"


def test_a_sweep_is_named_after_its_file_or_what_it_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def folder(*overrides: str, file: str | None = None) -> Path:
        chosen = {"choices": {"sweeps": file}}
        hydra = {"overrides": {"task": list(overrides)}, "runtime": chosen, "sweep": {"dir": ""}}
        return sweep_dir(OmegaConf.create({"hydra": hydra}))

    first = folder("quant=none,int8", "data=iu_xray", "trainer.learning_rate=1e-4,1e-5", "tune/lm=glob(*)")
    assert re.fullmatch(r"sweep-quant-learning_rate-lm-[0-9a-f]{8}", first.name)
    assert folder("seed=1,2", file="a/b").name.startswith("sweep-a-b-")
    assert folder("seed=range(1,3)").name.startswith("sweep-seed-")
    earlier = tmp_path / "outputs" / folder("seed=1,2").name.replace("seed", "jobs")
    earlier.mkdir(parents=True)
    (earlier / "sweep.json").touch()
    assert folder("seed=1,2") == earlier, "version 0.1 named it so"


def test_each_job_is_done_or_has_its_reason_and_is_not_trained_twice(tmp_path: Path):
    overrides = ["-m", *QUICK, "seed=1", "tune=shallow,delta,nothing", "hydra.sweep.dir=sweep"]
    first = run(*overrides, cwd=tmp_path)
    assert first.returncode == 2, first.stdout + first.stderr
    trained, illegal, unknown = jobs_of(tmp_path / "sweep")
    assert trained["state"] == "done"
    assert (tmp_path / "sweep" / trained["run_dir"] / "metrics.json").is_file()
    assert trained["choices"]["tune"] == "shallow"
    assert illegal["state"] == "skipped"
    assert illegal["reason"].startswith("tune=delta needs vision.lora_targets")
    assert unknown["state"] == "failed"
    assert unknown["reason"].startswith("tune=nothing does not exist")
    assert "tune=shallow  " in first.stdout.rpartition("val\n")[2], "its scores are in the table"
    assert {item.name for item in tmp_path.iterdir()} == {"outputs", "sweep"}
    log = tmp_path / "sweep" / trained["log"]
    written = log.stat().st_mtime

    second = run(*overrides, cwd=tmp_path)
    assert second.returncode == 2
    assert [job["state"] for job in jobs_of(tmp_path / "sweep")] == ["done", "skipped", "failed"]
    assert jobs_of(tmp_path / "sweep")[0]["seconds"] == trained["seconds"]
    assert log.stat().st_mtime == written, "it did not run again"

    (tmp_path / "moved").mkdir()
    for folder in ("outputs", "sweep"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    (tmp_path / "linked").symlink_to(tmp_path / "moved" / "sweep")
    status = run("task=status", "sweep=linked", cwd=tmp_path, smallest=False)
    assert status.returncode == 0, status.stderr
    assert "1/3 done, 1 failed, 1 skipped" in status.stdout
    assert "no command runs it now" in status.stdout
    assert "tune=shallow  " in status.stdout.rpartition("val\n")[2], "its scores are found after the folders were moved"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1,2", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: give a whole number of at least 1"),
        (["lm=glob(nope*)"], "this sweep has no job"),
    ],
)
def test_a_sweep_that_could_never_start_a_job_is_refused(overrides: list[str], message: str, tmp_path: Path):
    done = run("-m", *overrides, cwd=tmp_path, smallest=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_the_jobs_of_a_killed_sweep_die_with_it(tmp_path: Path):
    sweep = start("-m", "seed=1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    until = time.monotonic() + 120
    while not is_running(tmp_path / "sweep") and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_in(tmp_path) - {sweep.pid}
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    while processes_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert not processes_in(tmp_path)
    status = run("task=status", "sweep=sweep", cwd=tmp_path, smallest=False)
    assert "stopped  seed=1: its sweep was killed" in status.stdout


def is_running(sweep: Path) -> bool:
    return (sweep / "sweep.json").is_file() and jobs_of(sweep)[0]["state"] == "running"


def processes_in(folder: Path) -> set[int]:
    """The processes whose working directory is a folder: the sweep, its jobs and their ranks."""
    pids = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cwd").readlink() == folder:
                    pids.add(int(process.name))
            except OSError:
                continue
    return pids - {os.getpid()}


def test_two_lengths_of_one_run_are_refused(tmp_path: Path):
    """The second job would resume the run of the first, which would then never be finished again."""
    cells = {number: Cell(["x"], ["x"], config=composed(f"trainer.epochs={number}"), task="train") for number in (1, 2)}
    jobs = [JobRecord(number, ["x"], task="train", run_dir=str(tmp_path)) for number in cells]
    refuse_shared_folders(jobs, cells)
    assert [job.state for job in jobs] == ["waiting", "failed"]
    assert "another trainer.epochs" in jobs[1].reason
    assert "run_dir='outputs/NAME-${trainer.epochs}'" in jobs[1].reason
