"""From a table and a folder of images to a trained model and the reports of new images, by commands and in Python."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from forked_run import run
from PIL import Image
from run_in_process import run_in_process
from smallest_run import SMALLEST

from r2gen import __version__, load_run
from r2gen.data.phantom import Phantom
from r2gen.errors import UserError

SMALL = [word for word in SMALLEST if not word.startswith(("data.", "trainer.epochs"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a table, and the run that two commands made of them."""
    folder = tmp_path_factory.mktemp("own")
    phantoms = Phantom(seed=0, train_studies=40, val_studies=1, test_studies=1, size_px=32, version=1)
    (folder / "scans").mkdir()
    rows = []
    for study in phantoms.studies("train"):
        for number, view in enumerate(study.views):
            name = f"{study.id}-{number}.png".replace("/", "-")
            phantoms.image(view).save(folder / "scans" / name)
            rows.append((name, study.id, f"p-{study.id}", study.report))
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8-sig") as out:
        csv.writer(out).writerows([("Filename", "Study ID", "Patient ID", "Report"), *rows])
    prepare = (
        "task=prepare",
        "data=csv",
        "prepare.table=reports.csv",
        "prepare.images=scans",
        "prepare.split=[60,20,20]",
    )
    done = run(*prepare, cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    data = ("data=own", "data.root=.", *SMALL, "trainer.max_steps=20", "trainer.epochs=99", "run_dir=run")
    done = run(*data, cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    return folder


def predict(folder: Path, *words: str) -> list[dict[str, str]]:
    done = run("task=predict", "run_dir=run", *words, cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    out = next(word.partition("=")[2] for word in words if word.startswith("out="))
    with (folder / out).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_table_becomes_a_model_and_a_table_of_reports_which_resumes(trained: Path) -> None:
    new = trained / "new"
    new.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(min((trained / "scans").iterdir()), new / name)
    (new / "broken.png").write_bytes(b"no image")
    rows = predict(trained, "studies=new", "out=reports.out.csv")
    assert {row["id"] for row in rows if not row["error"]} == {"a.png", "b.png", "c.png"}
    assert "cannot be read" in next(row["error"] for row in rows if row["id"] == "broken.png")
    assert len({row["report"] for row in rows if not row["error"]}) == 1  # equal images

    shutil.copy(new / "a.png", new / "broken.png")
    before = (trained / "reports.out.csv").read_text().splitlines()
    again = predict(trained, "studies=new", "out=reports.out.csv")
    assert [row["error"] for row in again] == [""] * 4
    assert (trained / "reports.out.csv").read_text().splitlines()[:4] == [
        line for line in before if "broken" not in line
    ]
    other = ("task=predict", "run_dir=run", "studies=new", "out=reports.out.csv", "generation.max_new_tokens=3")
    done = run(*other, cwd=trained, smallest=False)
    assert done.returncode == 2
    assert "has reports of another checkpoint or decoding" in done.stderr

    rows = predict(trained, "studies=reports.csv", "prepare.images=scans", "out=table.csv", "trainer.devices=2")
    assert len({row["id"] for row in rows}) == len(rows) == 40
    done = run("task=compare", "runs=[run]", cwd=trained, smallest=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_loaded_run_predicts_what_python_holds_and_shows_its_results(trained: Path) -> None:
    loaded = load_run(trained / "run", device="cpu")
    files = sorted((trained / "scans").iterdir())[:4]
    arrays = [np.array(Image.open(file)) for file in files]
    reports = loaded.predict(files)
    assert loaded.predict(arrays) == loaded.predict([Image.open(file) for file in files]) == reports
    assert reports[0] == loaded.generate([files[0]]) == loaded.generate([arrays[0]])
    assert loaded.predict([[files[0], files[1]]]) == [loaded.generate(files[:2])]
    assert reports[0] == loaded.generate([files[0]], age=np.int64(40), prior_days=np.float32(3))  # cells of a frame
    with pytest.raises(UserError, match="prior_images: pass a list of images"):
        loaded.generate([files[0]], prior_images=files[1])
    with pytest.raises(UserError, match="positions: pass a list of texts"):
        loaded.generate([files[0]], positions="PA")
    assert len(loaded.predict(files, decoding="beam3", max_new_tokens=3)) == 4
    for wrong, words in (
        ({"decoding": "beam"}, "did you mean beam3"),
        ({"num_beam": 3}, "unknown option num_beam: did you mean num_beams"),
        ({"num_beams": 0}, "generation.num_beams=0"),
    ):
        with pytest.raises(UserError, match=words):
            loaded.predict(files, **wrong)
    with pytest.raises(UserError, match=r"study 1: image nowhere\.png does not exist"):
        loaded.predict([files[0], "nowhere.png"])
    assert str(trained / "run") in repr(loaded)
    assert "<td>constant</td>" in loaded._repr_html_()

    pandas = pytest.importorskip("pandas")
    frame = loaded.predict(pandas.DataFrame({"image": [file.name for file in files]}), images=trained / "scans")
    assert list(frame["report"]) == reports
    assert loaded.scores.loc[("test", "model"), "bleu_1"] >= 0
    assert {"split", "id", "report", "reference"} <= set(loaded.predictions.columns)
    assert (loaded.history["event"] == "step").sum() == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run_dir=DIR"),
        (["run_dir=/nope", "studies=new", "out=r.csv"], "not a run folder"),
    ],
)
def test_a_wrong_command_has_one_message_and_status_2(words: list[str], message: str, tmp_path: Path) -> None:
    status, output = run_in_process("task=predict", *words, cwd=tmp_path)
    assert (status, output.count("\n")) == (2, 1), output
    assert message in output


def test_the_version_is_that_of_r2gen(tmp_path: Path) -> None:
    assert run_in_process("--version", cwd=tmp_path) == (0, f"r2gen {__version__}\n")
