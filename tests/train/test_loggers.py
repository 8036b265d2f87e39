"""W&B's offline files, read with its own reader, and a job that continues when W&B fails."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import wandb
from composed import composed
from forked_run import run
from PIL import Image
from smallest_run import ROOT
from wandb_files import every_byte, read

from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.ranks.stop import Stopped
from r2gen.runs.folder import RunFolder
from r2gen.train.loggers import StepRecord, WandbLogger, opened
from r2gen.train.published import ShownStudy, shown_config, summary_of

CONFIG = composed("lm=tiny", "seed=3", "logger=wandb", "run_dir=/home/jane.doe/run")
RUN = {
    "status": "running",
    "overrides": [],
    "identity": "0123456789abcdef",
    "data_hash": "d",
    "git": {"revision": None, "dirty": None},
    "versions": {},
    "seconds": {"train": 10.0},
    "hardware": {"cpu": "C", "gpus": ["H200", "H200"]},
    "parameters": [{"part": "lm", "total": 7, "trainable": 2}],
}
STEP = StepRecord(step=1, epoch=0.5, loss=2.0, lr=0.1, grad_norm=1.0, samples_per_s=1.0, seconds=1.0, peak_gib=1.0)
SECRET = "0123456789" * 4


@pytest.fixture(autouse=True)
def away_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "run" / "wandb"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield
    wandb.teardown()  # otherwise wandb keeps its process and the environment that it has read


def folder_of(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.record(**RUN)
    return folder


def test_a_run_sends_what_a_dashboard_groups_by_and_no_patient_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("R2GEN_SWEEP", str(tmp_path / "outputs" / "night"))
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    done = run("logger=wandb", "logger.mode=offline", "run_dir=run", "seed=7", cwd=tmp_path)
    assert done.returncode == DONE, done.stderr
    folder = tmp_path / "run"
    (logged,) = read(folder)
    facts = json.loads((folder / "run.json").read_text())
    assert logged["run_id"] == facts["identity"]
    assert (logged["run"]["run_group"], logged["run"]["job_type"]) == ("night", "train")
    assert {"lm=tiny", "quant=none", "data=phantom"} <= set(logged["tags"])
    assert (logged["config"]["lm"], logged["config"]["tune/lm"], logged["config"]["seed"]) == ("tiny", "auto", 7)
    assert logged["config"]["yaml"]["trainer"]["learning_rate"] == pytest.approx(1e-3)
    assert (logged["state"], logged["exit_code"], logged["summary"]["status"]) == ("finished", 0, "finished")
    test = json.loads((folder / "metrics.json").read_text())["splits"]["test"]
    for score, value in test["systems"]["model"].items():
        assert logged["summary"][f"best/test/{score}"] == pytest.approx(value)
        assert logged["summary"][f"constant/test/{score}"] == pytest.approx(test["systems"]["constant"][score])
    interval = test["intervals"]["model"]["cider"]
    assert logged["summary"]["best/test/cider_high"] == pytest.approx(interval["high"])
    assert logged["summary"]["cost/trainable_parameters"] == sum(part["trainable"] for part in facts["parameters"])
    assert logged["summary"]["step"] == 12

    written = every_byte(folder)
    predictions = [
        json.loads(line) for file in folder.glob("predictions/*.jsonl") for line in file.read_text().splitlines()[1:]
    ]
    assert len(predictions) == 16
    for study in predictions:
        assert study["reference"].encode() not in written
        assert study["id"].encode() not in written
    assert not any(start in written for start in (b"\x89PNG", b"\xff\xd8\xff\xe0"))
    # As a whole value, since a short name such as "vm" also occurs in W&B's random ids.
    assert logged["run"]["host"] == "-"
    assert json.dumps(os.uname().nodename) not in json.dumps(logged, default=str)
    assert SECRET.encode() not in written
    assert not list(folder.glob("wandb/offline-run-*/files/**/*.*"))


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [(Stopped(), STOPPED, "stopped"), (UserError("x"), FIXABLE, "failed"), (ValueError("x"), DEFECT, "failed")],
)
def test_the_exit_status_is_that_of_the_job(tmp_path: Path, error: Exception, status: int, word: str):
    folder = folder_of(tmp_path)

    def job() -> None:
        with opened(WandbLogger(project="p"), folder=folder, config=CONFIG, job_id="i", resumes=False) as logger:
            logger.log(STEP)
            raise error

    with pytest.raises(type(error)):
        job()
    (logged,) = read(folder.path)
    assert (logged["exit_code"], logged["state"], logged["summary"]["status"]) == (status, "failed", word)
    assert logged["summary"]["train/loss"] == 2.0


def test_a_job_that_resumes_writes_to_the_same_run_and_sends_reports_only_with_log_examples(tmp_path: Path):
    folder = folder_of(tmp_path)
    study = ShownStudy("s1", [Image.new("L", (8, 8))], "the heart is large.", "no finding.")
    for log_examples in (False, True):
        logger = WandbLogger(project="p", log_examples=log_examples)
        with opened(logger, folder=folder, config=CONFIG, job_id="same", resumes=log_examples) as log:
            log.log(STEP)
            if log.wants_examples:
                assert b"the heart is large." not in every_byte(folder.path)
                log.examples([study])
        time.sleep(1.1)  # W&B's folders are named by the second
    assert [logged["run_id"] for logged in read(folder.path)] == ["same", "same"]
    assert b"the heart is large." in every_byte(folder.path)
    assert every_byte(folder.path).count(b"\x89PNG") == 1


def test_a_job_continues_if_its_logger_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = folder_of(tmp_path)
    with opened(
        WandbLogger(project="a/name/that/wandb/refuses"), folder=folder, config=CONFIG, job_id="i", resumes=False
    ) as logger:
        logger.log(STEP)
    assert "this job is not logged there" in capfd.readouterr().out


def test_a_job_continues_if_the_process_of_wandb_dies(tmp_path: Path):
    """In a process of its own, since wandb also acts when the process exits."""
    folder = folder_of(tmp_path)
    code = f"""
import json, os, signal, subprocess, sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "train")!r}, {str(ROOT / "tests" / "support")!r}]
from pathlib import Path
from test_loggers import CONFIG, STEP
from r2gen.runs.folder import RunFolder
from r2gen.train.loggers import StepRecord, WandbLogger, opened
folder = RunFolder(Path({str(folder.path)!r}))
with opened(WandbLogger(project="p"), folder=folder, config=CONFIG, job_id="i", resumes=False) as logger:
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    core, = [int(line.split()[0]) for line in listed.stdout.splitlines() if "wandb-core" in line]
    os.kill(core, signal.SIGKILL)
    for _ in range(20):
        logger.log(STEP)
        time.sleep(0.02)
    logger.summary({{"best/score": 1.0}})
print("the job has ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this job is no longer logged there") == 1
    assert done.stdout.endswith("the job has ended\n")


def test_online_is_refused_without_a_key_and_writes_files_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    folder = folder_of(tmp_path)
    logger = WandbLogger(project="p", mode="online")
    with (
        pytest.raises(UserError, match="no key here: run `wandb login`"),
        opened(logger, folder=folder, config=CONFIG, job_id="i", resumes=False),
    ):
        pass
    wandb.teardown()  # it reads the environment once per process
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    with opened(WandbLogger(project="p"), folder=folder, config=CONFIG, job_id="i", resumes=False) as log:
        log.log(STEP)
    assert "W&B cannot be reached" in capfd.readouterr().out
    assert read(folder.path)[-1]["summary"]["train/loss"] == 2.0


def test_no_path_leaves_the_machine():
    config = replace(
        CONFIG,
        lm=replace(CONFIG.lm, path="/home/jane.doe/weights/llama", stop=["/home/jane.doe/x"]),
        data=CONFIG.data.with_arguments(root="/home/jane.doe/images", annotation="a.json"),
    )
    shown = shown_config(config, RUN, varied={"trainer.learning_rate": "1e-3"})
    assert shown[min(shown)] == shown["_learning_rate"] == "1e-3"  # W&B sorts by name
    assert "jane.doe" not in json.dumps(shown)
    assert (shown["yaml"]["lm"]["path"], shown["yaml"]["lm"]["stop"]) == ("llama", ["x"])
    assert shown["yaml"]["data"]["annotation"] == "a.json"
    assert "root" not in shown["yaml"]["data"]
    assert (shown["lm"], shown["seed"], shown["with"]["identity"]) == ("tiny", 3, RUN["identity"])


def test_the_summary_has_the_cost():
    summary = summary_of({"splits": {}}, RUN, ranks=2)
    assert summary == {
        "cost/hardware": "2 x H200",
        "cost/train_seconds": 10.0,
        "cost/gpu_seconds": 20.0,
        "cost/parameters": 7,
        "cost/trainable_parameters": 2,
    }
