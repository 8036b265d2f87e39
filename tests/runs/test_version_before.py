"""A run folder that the version before made is found, shown, evaluated, resumed and compared."""

import json
import shutil
from pathlib import Path

import pytest
from forked_run import run
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.config.plain import flat
from r2gen.runs.folder import RunFolder

GOLDEN = ROOT / "tests" / "golden" / "run_of_the_version_before"
NAME = "train-tiny-phantom-6ef1670e"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A copy at the path that the same command gives it."""
    return RunFolder(Path(shutil.copytree(GOLDEN / NAME, tmp_path / "outputs" / NAME, symlinks=True)))


@pytest.fixture
def overrides(folder: RunFolder) -> list[str]:
    overrides: list[str] = folder.facts()["overrides"]
    return overrides


def reports(folder: RunFolder, split: str) -> dict[str, str]:
    lines = (folder.path / "predictions" / f"{split}.greedy.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["report"] for row in map(json.loads, lines[1:])}


def test_the_same_command_finds_the_run_and_shows_its_table(folder: RunFolder, overrides: list[str], tmp_path: Path):
    status, output = run_in_process(*overrides, cwd=tmp_path)
    assert status == 0, output
    assert f"{NAME} is finished" in output
    assert "bleu_4" in output
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [NAME]
    status, output = run_in_process(*overrides, "task=compose", cwd=tmp_path)
    assert (status, output) == (0, f"outputs/{NAME} (finished)\n")


def test_it_is_evaluated_to_the_same_reports_and_scores(folder: RunFolder, tmp_path: Path):
    before = {split: reports(folder, split) for split in ("val", "test")}
    metrics = json.loads((folder.path / "metrics.json").read_text(encoding="utf-8"))
    (folder.path / "metrics.json").unlink()
    shutil.rmtree(folder.path / "predictions")
    done = run("task=evaluate", f"run_dir={folder.path}", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert {split: reports(folder, split) for split in ("val", "test")} == before
    after = json.loads((folder.path / "metrics.json").read_text(encoding="utf-8"))
    for split in ("val", "test"):
        for part in ("systems", "intervals"):
            # another processor may round the last digit differently
            stored = dict(flat(metrics["splits"][split][part]))
            assert dict(flat(after["splits"][split][part])) == pytest.approx(stored, rel=1e-12, abs=0, nan_ok=True)


def test_it_is_resumed_under_its_identity(folder: RunFolder, overrides: list[str], tmp_path: Path):
    done = run(*overrides, "trainer.epochs=5", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "resuming from step 24 of 30" in done.stdout
    assert folder.facts()["identity"] == "6ef1670ecdba8245"
    assert folder.last() == "step-00000030"
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [NAME]


def test_it_is_compared(folder: RunFolder, tmp_path: Path):
    status, output = run_in_process(
        "task=compare", f"runs=[before={folder.path},again={folder.path}]", "out=compared", cwd=tmp_path
    )
    assert status == 0, output
    assert "before" in (tmp_path / "compared" / "table.md").read_text(encoding="utf-8")
