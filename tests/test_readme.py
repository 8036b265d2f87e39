"""Every command of the README runs as written, on small inputs; so does the notebook."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from forked_run import run
from smallest_run import ROOT, SMALLEST

from r2gen.data.phantom import VERSION, Phantom

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (.*)$", README.replace("\\\n", ""), re.M)
NEEDS = ("/data/iu_xray",)  # published weights or data: such a command only composes (test_docs.py)


def small(words: list[str]) -> list[str]:
    """What makes a command of the README small."""
    names = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    if names.get("task", "train") not in ("train", "check"):
        return []
    dropped = ("lm.",) if "lm" in names else ()
    dropped += ("data.",) if names.get("data") == "own" else ()
    return [word for word in SMALLEST if not word.startswith(dropped)]


def write_table(folder: Path) -> None:
    """reports.csv and scans/, as the README's own data."""
    phantom = Phantom(train_studies=24, val_studies=0, test_studies=0, size_px=32, version=VERSION)
    (folder / "scans").mkdir()
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["study_id", "patient_id", "image", "report"])
        for study in phantom.studies("train"):
            phantom.image(study.views[0]).save(folder / "scans" / f"{study.id}.png")
            table.writerow([study.id, f"patient of {study.id}", f"{study.id}.png", study.report])


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path):
    write_table(tmp_path)
    ran = []
    for command in COMMANDS:
        script, *words = shlex.split(command)
        if any(text in command for text in NEEDS):
            continue
        if script != "run.py":
            words = [sys.executable, str(ROOT / script), *words]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        else:
            done = run(*words, *small(words), cwd=tmp_path, smallest=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        ran.append(command)
    assert len(ran) >= 10
    for page in ("chatglm3/report.html", "models/sweep.html", "own/report.html"):
        assert (tmp_path / "outputs" / page).is_file(), page
    reports = (tmp_path / "new_reports.csv").read_text(encoding="utf-8")
    assert reports.count("\n") >= 25


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pandas")
    done = run("run_dir=outputs/first", *SMALLEST, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["images"]) == 3  # type: ignore[arg-type]
