"""The runs of a sweep as systems of a comparison, and their W&B runs in one folder."""

import os
from pathlib import Path

import pytest
from fake_run import finished_run, started_run

from r2gen.errors import UserError
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.systems import differing, short_names, systems_of
from r2gen.sweeps.wandb_runs import link_runs

SHARED = ["data=iu_xray"]


def sweep_of(folder: Path, jobs: list[JobRecord]) -> Path:
    sweep = SweepFolder(folder)
    sweep.create()
    sweep.write(SweepRecord("lm", "python run.py -m ...", SHARED, "2026-01-01", jobs=jobs))
    return folder


def jobs_of(tmp_path: Path) -> list[JobRecord]:
    overrides = [["lm=llama2", "quant=int8"], ["lm=chatglm3", "quant=int8"], ["lm=qwen2", "quant=none"]]
    finished_run(tmp_path / "run0")
    finished_run(tmp_path / "run1")
    started_run(tmp_path / "run2", status="failed")
    return [
        JobRecord(number, [*words, *SHARED], run_dir=str(tmp_path / f"run{number}"), state="done")
        for number, words in enumerate(overrides)
    ]


def test_the_finished_runs_are_named_by_the_choices_that_differ(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path / "sweep", jobs_of(tmp_path))
    systems, left_out = systems_of(sweep)
    assert systems == [f"llama2 int8={tmp_path}/run0", f"chatglm3 int8={tmp_path}/run1"]
    assert left_out == ["qwen2 none"]


def test_a_run_counts_once_and_a_sweep_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    jobs[1].run_dir = jobs[0].run_dir
    systems, _ = systems_of(sweep_of(tmp_path / "sweep", jobs))
    assert systems == [f"llama2 int8={tmp_path}/run0"]
    with pytest.raises(UserError, match="none of its 1 jobs is a finished run"):
        systems_of(sweep_of(tmp_path / "failed", jobs[2:]))


def test_names_are_words_and_unique() -> None:
    values = ["/weights/a b", "/other/a b", "c"]
    jobs = [JobRecord(number, [f"lm.path={value}", "seed=1"]) for number, value in enumerate(values)]
    assert short_names(jobs) == ["path a b", "path a b 1", "path c"]
    assert differing(jobs[2], jobs) == {"lm.path": "c"}
    assert short_names(jobs[:1]) == ["path a b seed 1"]


def test_wandb_runs_of_all_jobs_are_linked_in_one_folder(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    sweep = sweep_of(tmp_path / "sweep", jobs)
    assert link_runs(sweep, jobs) is None
    for number, job in enumerate(jobs[:2]):
        run = Path(str(job.run_dir)) / "wandb" / f"offline-run-20260101_00000{number}-abc{number}"
        run.mkdir(parents=True)
        (run / f"run-abc{number}.wandb").write_text(f"run {number}")
    for _ in range(2):  # a second command finds the links
        assert link_runs(sweep, jobs) == sweep / "wandb"
    assert sorted(file.name for file in (sweep / "wandb").iterdir()) == [
        "run-20260101_000000-llama2_int8",
        "run-20260101_000001-chatglm3_int8",
    ]
    link = sweep / "wandb" / "run-20260101_000000-llama2_int8" / "run-llama2_int8.wandb"
    assert link.read_text() == "run 0"
    assert not os.path.isabs(link.readlink())  # noqa: PTH117
