"""task=evaluate on another data set than that of the training: results of their own, and the run's stay as they are."""

import json
import shutil
from pathlib import Path

import pytest
from forked_run import run
from PIL import Image
from run_in_process import run_in_process
from smallest_run import SMALLEST

from r2gen.pages.document import content_of

OWN, OTHER = "Heart is normal.", "1. Heart is large. 2. No effusion."


def data_set(folder: Path, report: str, *, views: int = 1) -> Path:
    """A data set in R2Gen's format, whose images have the same names in each data set."""
    (folder / "images").mkdir(parents=True)
    entries = {}
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        entries[split] = []
        for number in range(count):
            names = [f"{split}{number}-{view}.png" for view in range(views)]
            for name in names:
                Image.new("L", (32, 32), 10 * number + len(report)).save(folder / "images" / name)
            text = f"{report} {split} {number} ."
            entries[split].append({"id": f"{split}{number}", "report": text, "image_path": names})
    (folder / "annotation.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one data set, and another data set."""
    folder = tmp_path_factory.mktemp("external")
    data_set(folder / "own", OWN)
    data_set(folder / "other", OTHER)
    data_set(folder / "many", OTHER, views=5)
    words = ["data=iu_xray", "data.root=own", "data.cleaner=none", "metrics=[bleu]", "trainer.max_steps=1"]
    small = [word for word in SMALLEST if not word.startswith(("data.", "metrics=", "trainer.epochs="))]
    done = run(*small, *words, "run_dir=run", cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_another_data_set_has_results_of_its_own(folder: Path):
    own = results(folder / "run")
    words = ["data=mimic_cxr", "data.root=other", "data.images=images"]
    done = run("task=evaluate", "run_dir=run", *words, cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    assert results(folder / "run") == own
    (external,) = (folder / "run" / "external").glob("mimic_cxr-*")
    metrics = json.loads((external / "metrics.json").read_text())
    assert metrics["recipe"]["cleaner"] == "mimic_cxr"
    assert metrics["constant_report"].startswith(OWN)  # baselines are of the training set
    assert set(metrics["splits"]["test"]["systems"]) == {"model", "constant", "random", "nearest", "shuffled"}
    lines = [json.loads(line) for line in (external / "predictions" / "test.greedy.jsonl").read_text().splitlines()[1:]]
    assert lines[0]["reference"].startswith("heart is large . no effusion . test 0")
    shown = content_of(folder / "run" / "report.html")["external"][external.name]
    assert shown["recipe"]["cleaner"] == metrics["recipe"]["cleaner"]
    assert shown["signatures"] == metrics["signatures"]

    status, output = run_in_process(
        "task=compare", f"runs=[here=run/external/{external.name},same=run/external/{external.name}]", cwd=folder
    )
    assert status == 0, output


def test_the_same_option_with_other_files_is_another_data_set_too(folder: Path):
    own = results(folder / "run")
    annotation = json.loads((folder / "own" / "annotation.json").read_text())
    annotation["test"] = [*annotation["test"][:1], annotation["train"].pop()]  # another split
    (folder / "mixed").mkdir()
    (folder / "mixed" / "annotation.json").write_text(json.dumps(annotation))
    (folder / "mixed" / "images").symlink_to(folder / "own" / "images")
    done = run("task=evaluate", "run_dir=run", "data.root=mixed", cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 studies of test have the id and the report of a study that this run was trained on" in done.stdout
    assert results(folder / "run") == own
    assert any(path.name.startswith("iu_xray-") for path in (folder / "run" / "external").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.cleaner=mimic_cxr"], "data.cleaner: for another data set than the run's, pass data=NAME"),
        (["data=iu_xray", "data.root=many"], "has 5 images, and vision.max_views=4. The run was trained with it"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(words: list[str], message: str, folder: Path):
    status, output = run_in_process("task=evaluate", "run_dir=run", *words, cwd=folder)
    assert status == 2, output
    assert message in output


def test_images_are_checked_unless_the_training_has_checked_them(folder: Path, tmp_path: Path):
    """An evaluation reads few training images, and checking those of MIMIC-CXR takes a minute."""
    shutil.copytree(folder / "own", tmp_path / "moved")
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "moved" / "images" / "train7-0.png").write_bytes(b"")
    words = ["task=evaluate", "run_dir=run", "evaluate.nearest_studies=0"]
    status, output = run_in_process(*words, "data.root=moved", cwd=tmp_path)
    assert (status, "train7-0.png" in output) == (2, True), output
    image = folder / "own" / "images" / "train7-0.png"
    before = image.read_bytes()
    image.write_bytes(b"")
    try:
        done = run(*words, cwd=tmp_path, smallest=False)
    finally:
        image.write_bytes(before)
    assert done.returncode == 0, done.stderr


def results(run_dir: Path) -> dict[str, bytes]:
    files = [run_dir / "metrics.json", run_dir / "nearest.json", *(run_dir / "predictions").iterdir()]
    return {file.name: file.read_bytes() for file in files}
