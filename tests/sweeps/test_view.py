"""The view of a running sweep: steps and time left come from the run's files, and lines fit the terminal."""

import json
from pathlib import Path

import pytest

from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import now
from r2gen.sweeps.progress import Progress, progress_of
from r2gen.sweeps.record import JobRecord, SweepRecord
from r2gen.sweeps.view import View, labels, sweep_lines


def run_at(folder: Path, *, steps: int, written: str) -> Path:
    folder.mkdir()
    RunFolder(folder).record(git={}, status="running", overrides=[], steps=steps)
    (folder / "train.jsonl").write_text(written, encoding="utf-8")
    return folder


def step(number: int, seconds: float) -> str:
    return json.dumps({"event": "step", "step": number, "samples_per_s": 8.0, "seconds": seconds}) + "\n"


def test_time_left_is_read_from_train_jsonl(tmp_path: Path):
    torn = step(10, 20.0) + '{"event": "validation", "step": 20, "scores": {}}\n' + step(30, 60.0) + '{"event": "st'
    run = run_at(tmp_path / "run", steps=100, written=torn)
    assert progress_of(run) == Progress(30, 100, 140.0), "two seconds per step, seventy to go"
    assert str(progress_of(run)) == "step 30/100, 02:20 left"
    assert str(Progress(100, 100, 0.0)) == "step 100/100, scoring"
    assert progress_of(tmp_path) is None


def test_a_job_is_named_by_the_overrides_that_not_all_jobs_share():
    jobs = [JobRecord(0, ["lm=t5", "seed=1", "data=iu_xray"]), JobRecord(1, ["lm=t5", "seed=2", "data=iu_xray"])]
    assert labels(jobs) == {0: "seed=1", 1: "seed=2"}
    assert labels(jobs[:1]) == {0: "lm=t5 seed=1 data=iu_xray"}
    alone = JobRecord(0, ["seed=1", *(f"data.{split}_studies=100" for split in ("train", "val", "test"))])
    assert labels([alone]) == {0: "seed=1 data.train_studies=100 data.val_studies=100 …"}
    assert labels([]) == {}


def test_a_terminal_is_redrawn_in_place_and_its_lines_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = run_at(tmp_path / "run", steps=100, written=step(10, 20.0) + step(30, 60.0))
    jobs = [JobRecord(number, [f"seed={number}"], task="train") for number in range(40)]
    jobs[7].state, jobs[7].run_dir, jobs[7].gpus = "running", str(run), ["3"]
    jobs[9].set("failed", "ValueError: " + "long " * 60)
    record = SweepRecord("seeds", "python run.py", [], now(), jobs=jobs)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    view = View()
    view.on_terminal = True
    view.show(record)
    view.drawn_at = 0.0
    view.show(record)
    first, second = capsys.readouterr().out.split("\x1b[J")[1:]
    lines = first.splitlines()
    assert lines[0] == "seeds: 0/40 done, 1 running, 1 failed, 38 waiting"
    assert lines[1] == "  running  seed=7  GPU 3, step 30/100, 02:20 left"
    assert lines[2].startswith("  failed   seed=9: ValueError: long")
    assert max(map(len, lines)) < 80
    assert len(second.splitlines()) == 22, "and the line of the cursor, of 24"
    assert second.splitlines()[-1] == "  and 20 more"
    assert f"\x1b[{22}F" in first
    assert len(sweep_lines(record, most=None)) == 41
