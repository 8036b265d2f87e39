"""From a table with dates to a model that reads prior studies, by the commands that people type."""

import csv
import json
from pathlib import Path

import pytest
from forked_run import run
from smallest_run import SMALLEST

from r2gen.data.phantom_story import STORY_VERSION, PhantomStory

SMALL = [word for word in SMALLEST if not word.startswith(("data.", "trainer.epochs"))]


def write_table(folder: Path) -> None:
    """A row for each image of 20 patients with two studies, of which the first is the prior of the second."""
    story = PhantomStory(train_studies=60, val_studies=1, test_studies=1, size_px=32, version=STORY_VERSION)
    (folder / "scans").mkdir()
    rows = [("image", "study", "patient", "report", "view", "indication", "age", "sex", "date")]
    with_prior = [study for study in story.studies("train") if study.prior is not None][:20]
    for number, study in enumerate(with_prior):
        assert study.prior is not None
        for date, views, positions, report in (
            ("2020-01-31", study.prior.views, study.prior.positions, study.prior.report),
            ("2020-03-01 10:30", study.views, study.positions, study.report),
        ):
            for view, position in zip(views, positions, strict=True):
                name = f"{number}-{date[:7]}-{position}.png"
                story.image(view).save(folder / "scans" / name)
                more = (position, study.indication or "", f"{study.age:03.0f}Y", study.sex, date)
                rows.append((name, f"{number}/{date[:7]}", f"p{number}", report, *more))
    with (folder / "t.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)


@pytest.mark.slow
def test_a_table_with_dates_becomes_a_model_that_reads_prior_studies(tmp_path: Path) -> None:
    write_table(tmp_path)
    prepare = ("task=prepare", "data=csv", "prepare.table=t.csv", "prepare.images=scans", "prepare.split=[60,20,20]")
    done = run(*prepare, cwd=tmp_path, smallest=False)
    assert "priors         of 20 entries (0 priors are no entries); 0 studies have no date" in done.stdout, done.stderr
    data = ("data=own", "data.root=.", "context=all")
    done = run(*data, *SMALL, "trainer.max_steps=20", "trainer.epochs=99", "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    done = run("task=evaluate", "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    for studies in ("annotation.json", "t.csv"):
        words = ("task=predict", "run_dir=run", f"studies={studies}", f"out={studies}.jsonl", "prepare.images=scans")
        done = run(*words, cwd=tmp_path, smallest=False)
        assert "40 reports in" in done.stdout, done.stderr
    reports = [json.loads(line) for line in (tmp_path / "annotation.json.jsonl").read_text().splitlines()]
    assert all(report["report"] for report in reports)
