"""Runs with an objective: what they print and write, and how another run starts from them."""

import json
import shutil
from pathlib import Path

import pytest
from forked_run import run
from run_in_process import run_in_process

from r2gen.runs.untrusted import read_jsonl


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=scst"], "add trainer.start=RUN_DIR"),
        (["objective=findings", "tune=shallow"], "use tune=deep or tune=delta"),
        (["objective=scst", "trainer.start=nowhere"], "trainer.start=nowhere is not a run folder"),
        (["objective=findings", "objective.wieght=2"], "objective.wieght"),
        (["objective=rl"], "objective=rl does not exist"),
    ],
)
def test_a_mistake_is_answered_before_a_rank_starts(words: list[str], message: str, tmp_path: Path):
    status, output = run_in_process(*words, cwd=tmp_path)
    assert status == 2, output
    assert message in output


@pytest.mark.slow
def test_a_run_with_findings_is_improved_by_self_critical_training(tmp_path: Path):
    trained_with("findings", cwd=tmp_path)
    scst = ["objective=scst", "trainer.start=first", "run_dir=second", "trainer.max_steps=2"]
    second = run(*scst, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "starting from first, step-" in second.stdout
    assert set(steps(tmp_path / "second")[0]["objective"]) == {"reward", "greedy_reward"}
    again = run("task=evaluate", "run_dir=second", cwd=tmp_path, smallest=False)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_run_with_findings_in_the_prompt_writes_reports_and_is_not_exported(tmp_path: Path):
    first = trained_with("findings_prompt", cwd=tmp_path)
    shutil.rmtree(tmp_path / "first" / "predictions")
    again = run("task=evaluate", "run_dir=first", cwd=tmp_path, smallest=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split("test:")[1].split("page:")[0] == first.split("test:")[1].split("page:")[0]
    status, output = run_in_process("task=export", "run_dir=first", cwd=tmp_path)
    assert status == 2, output
    assert "objective=findings_prompt" in output


@pytest.mark.slow
def test_alignment_writes_an_encoder_from_which_a_run_starts(tmp_path: Path):
    aligned = run("objective=align", "run_dir=aligned", cwd=tmp_path)
    assert aligned.returncode == 0, aligned.stderr
    encoder = tmp_path / "aligned" / "encoder"
    assert f"encoder: vision=tiny vision.path={encoder}" in aligned.stdout
    assert not (tmp_path / "aligned" / "metrics.json").exists()
    done = run(f"vision.path={encoder}", "run_dir=next", "trainer.max_steps=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "vision.path" in json.loads((tmp_path / "next" / "run.json").read_text(encoding="utf-8"))["weights"]


def trained_with(objective: str, *, cwd: Path) -> str:
    """What a training on labelled findings prints; its run is cwd/first."""
    first = run(f"objective={objective}", "run_dir=first", cwd=cwd)
    assert first.returncode == 0, first.stderr
    assert f"objective={objective}: 48 training reports labelled" in first.stdout
    assert all("findings_loss" in line["objective"] for line in steps(cwd / "first"))
    return first.stdout


def steps(folder: Path) -> list[dict[str, dict[str, float]]]:
    return [line for line in read_jsonl(folder / "train.jsonl") if line["event"] == "step"]
