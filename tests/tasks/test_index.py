"""task=index lists the runs, sweeps and comparisons in a folder that also holds other files."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from composed import composed
from fake_run import HOSTILE, finished_run, started_run
from shown_page import shown_text

from r2gen.errors import UserError
from r2gen.pages.document import FOLDER, content_of
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.tasks.index import index


def listed(folder: Path) -> dict[str, list[dict[str, Any]]]:
    assert index(replace(composed("task=index"), out=str(folder)), []) == 0
    return content_of(folder / "index.html")["listed"]


def outputs(folder: Path) -> Path:
    """A folder with a run, a failed run, a sweep, a comparison, and what does not belong there."""
    folder.mkdir()
    run = finished_run(folder / "train-a")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"git": {"revision": None}}))
    started_run(folder / "train-b", status="failed", reason=HOSTILE)
    (folder / "sweep-lm-1").mkdir()
    job = JobRecord(0, ["lm=a"], {"lm": "a"}, run_dir=str(run), state="done")
    SweepFolder(folder / "sweep-lm-1").write(SweepRecord("lm", "python run.py -m lm=a", [], "2026-01-01", jobs=[job]))
    (folder / "compare-1").mkdir()
    systems = [{"name": "a", "kind": "run", "source": str(run)}, {"name": "constant", "kind": "null", "source": "..."}]
    comparison = {"title": "a", "written": "2026-01-02", "split": "test", "studies": 3, "systems": systems}
    (folder / "compare-1" / "comparison.json").write_text(json.dumps(comparison))
    (folder / "notes").mkdir()
    (folder / "notes.txt").write_text("mine")
    return folder


def test_runs_sweeps_and_comparisons_are_listed_with_what_they_are_part_of(tmp_path: Path) -> None:
    entries = listed(outputs(tmp_path / "outputs"))
    assert [run["name"] for run in entries["runs"]] == ["train-a", "train-b"]
    first, second = entries["runs"]
    assert first["part_of"] == ["sweep-lm-1", "compare-1"]
    assert first["splits"]["test"]["scores"]["cider"] == 0.402
    assert first["splits"]["test"]["margins"]["cider"]["within_noise"] is False
    assert second["status"] == "failed"
    assert [sweep["counts"] for sweep in entries["sweeps"]] == [{"done": 1}]
    assert [comparison["systems"] for comparison in entries["comparisons"]] == [["a"]]
    assert entries["unreadable"] == []
    page = tmp_path / "outputs" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert text.count("<script") == (FOLDER / "document.html").read_text(encoding="utf-8").count("<script")
    assert "sweep-lm-1" in shown_text(page)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train-a/run.json", "{"),
        ("train-a/run.json", '{"format": 99, "status": "finished", "git": {}, "overrides": []}'),
        ("train-a/config.yaml", "choices: 3"),
        ("train-a/metrics.json", '{"splits": {"test": 1}}'),
        ("sweep-lm-1/sweep.json", '{"format": 1, "jobs": [{}]}'),
        ("compare-1/comparison.json", '{"title": "x", "systems": [3]}'),
        ("compare-1/comparison.json", "[]"),
    ],
)
def test_a_folder_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path, file: str, text: str) -> None:
    folder = outputs(tmp_path / "outputs")
    (folder / file).write_text(text)
    entries = listed(folder)
    assert [entry["name"] for entry in entries["unreadable"]] == [Path(file).parent.name]
    assert entries["unreadable"][0]["reason"]


def test_only_its_own_file_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        listed(tmp_path / "nothing")
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UserError, match="was not written by task=index"):
        listed(tmp_path)
    (tmp_path / "index.html").unlink()
    assert listed(tmp_path)["runs"] == listed(tmp_path)["runs"] == []


if __name__ == "__main__":
    import sys

    listed(outputs(Path(sys.argv[1])))
