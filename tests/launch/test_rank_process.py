"""A command that seems to be a job of one rank on a GPU starts that rank before it reads its configuration."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from smallest_run import ROOT

from r2gen.launch import rank_process

COMMAND = """
import subprocess, sys
from r2gen.launch import rank_process
rank_process.has_gpu = lambda: True
start = subprocess.Popen.__init__
def counted(self, words, *arguments, **options):
    print("started" if "r2gen.tasks.worker" in words else "other", words[-1], file=sys.stderr)
    start(self, words, *arguments, **options)
subprocess.Popen.__init__ = counted
import run
status = run.main()
print("waiting", len(rank_process._early), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rank_process, "has_gpu", lambda: True)
    yield
    rank_process.end_early()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["lm=llama2", "trainer.device=cuda"], True),
        (["task=evaluate", "run_dir=runs/a"], True),
        (["++task=train"], True),
        (["task=compare", "runs=[a,b]"], False),
        (["task=no_task"], False),
        (["--cfg", "job"], False),
        (["-m", "lm=tiny,gpt2"], False),
        (["trainer.devices=1", "hub=offline"], True),
        (["trainer.devices=2"], False),
        (["trainer.nodes=2"], False),
        (["trainer.device=cpu"], False),
        (["hub=online"], False),
        (["+sweeps=seeds"], False),
        (["hydra.mode=MULTIRUN", "seed=1,2"], False),
        (["+sweeps=seeds", "seed=1", "hydra.mode=RUN"], True),
    ],
)
def test_what_seems_to_be_a_job_of_one_rank(words: list[str], expected: bool) -> None:
    assert rank_process.is_one_rank(words) == expected


def test_a_machine_without_a_gpu_starts_no_rank_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_process, "has_gpu", lambda: False)
    rank_process.start_early([])
    assert not rank_process._early


@pytest.mark.parametrize("other", [{}, {"world": 2}, {"uses_gpu": False}, {"environment": {"HF_HUB_OFFLINE": "0"}}])
def test_a_rank_that_was_started_early_is_taken_where_it_fits_and_ends_elsewhere(other: dict[str, object]) -> None:
    environment = rank_process.rank_environment(devices=1, nodes=1, hub="offline")
    rank_process.start_early([])
    (rank,) = rank_process._early
    options = replace(rank_process.RankOptions(1, environment, uses_gpu=True), **other)  # type: ignore[arg-type]
    assert rank_process.take_early(options) == ([] if other else [rank])
    assert (rank.process.poll() is None) == (not other)
    assert not rank_process._early
    rank_process.end([rank])
    assert rank.process.poll() is not None


@pytest.mark.parametrize(
    ("words", "status", "started"),
    [
        (["trainer.max_steps=1"], 0, 1),
        (["trainer.max_steps=1", "experiment=demo_cpu"], 2, 1),  # there is no such experiment
        (["trainer.max_steps=1", "trainer.device=cpu"], 0, 1),
    ],
)
def test_a_command_starts_its_rank_once(words: list[str], status: int, started: int, tmp_path: Path) -> None:
    small = ["data.train_studies=8", "data.val_studies=4", "data.test_studies=4", "evaluate.nearest_studies=0"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *small, "metrics=[bleu]", "evaluate.best=bleu_4", "run_dir=run", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("started") for line in lines) == started
    assert f"waiting {0 if status == 0 else 1}" in lines
