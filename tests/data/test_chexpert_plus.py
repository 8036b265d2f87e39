"""task=prepare: CheXpert Plus's table and images become an annotation.

All texts are invented (tests/support/chexpert_plus_tree.py), since CheXpert Plus is not available here.
"""

import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chexpert_plus_tree import COLUMNS, write_table, write_tree
from prepared import Annotation, by_id, facts, refused
from prepared import prepare as prepare_layout
from round_trip import round_trip

from r2gen.data.annotation import AnnotatedReports

TABLE = "df_chexpert_plus_240401.csv"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chexpert_plus") / "tree"
    write_tree(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("chexpert_plus", root, **options)


def test_rows_become_studies_with_views_indication_age_sex_and_the_official_split(tree: Path) -> None:
    annotation = prepare(tree)
    entries = by_id(annotation)
    study = entries["patient00003_study1"]
    assert study["image_path"] == ["train/patient00003/study1/view1_frontal.png"]
    assert (study["views"], study["age"], study["sex"]) == (["AP"], 61, "F")
    assert study["indication"] == "Invented years of age, invented cough."
    assert entries["patient00002_study1"]["indication"] == "Invented history.", "where there is no clinical history"
    assert entries["patient00004_study1"]["views"] == ["PA", "LATERAL"]
    assert entries["patient00005_study1"]["views"] == ["FRONTAL"], "neither AP nor PA"
    assert "age" not in entries["patient00001_study1"], "empty"
    assert "sex" not in entries["patient00002_study1"], "Unknown"
    assert study["comparison"] == "None."
    counts = facts(tree)["counts"]
    table = (tree / TABLE).read_bytes()
    assert facts(tree)["sources_sha256"] == {TABLE: hashlib.sha256(table).hexdigest()}
    assert counts["dropped"] == {"no findings": 4}
    assert counts["entries"] == {split: len(some) for split, some in annotation.items()}
    assert all(entry["image_path"][0].startswith("valid/") for entry in annotation["val"])
    assert annotation["test"] == []
    data = AnnotatedReports(root=str(tree), cleaner="mimic_cxr", images=None)
    data.check()
    first = next(study for study in data.studies("val") if study.id == "patient00004_study1")
    assert (first.positions, first.comparison, first.age) == (("PA", "LATERAL"), None, 61)


def test_priors_have_an_order_but_no_days_and_never_a_greater_age(tree: Path) -> None:
    entries = by_id(prepare(tree))
    assert entries["patient00002_study3"]["prior"] == {"id": "patient00002_study2", "order": 1}
    assert "prior" not in entries["patient00002_study1"]
    left_out = entries["patient00038_study3"]["prior"]
    assert left_out["id"] == "patient00038_study2"
    assert left_out["report"] == "1. No invented disease."
    assert left_out["image_path"][0].startswith("train/patient00038/study2/")
    assert not any("prior" in entry for entry in entries.values() if entry["subject_id"] == "patient00005")
    assert facts(tree)["counts"]["priors"] == {
        "entries_with_prior": sum("prior" in entry for entry in entries.values()),
        "written_out": sum("report" in entry.get("prior", {}) for entry in entries.values()),
        "time_unknown": 0,
        "of_another_age": 34,
        "of_a_greater_age": 2,
        "order_is_of_time": True,
    }
    data = AnnotatedReports(root=str(tree), cleaner="mimic_cxr", images=None)
    third = next(study for study in data.studies("train") if study.id == "patient00002_study3")
    assert third.prior is not None
    assert (third.prior.id, third.prior.days) == ("patient00002_study2", None)


def test_no_prior_is_written_if_the_order_of_the_reports_is_not_that_of_time(own_tree: Path) -> None:
    """A later study as the prior would give away what happened since."""
    edited(own_tree, lambda rows: [row.update(age=f"{40 + int(row['patient_report_date_order']) % 2}") for row in rows])
    assert not any("prior" in entry for entry in by_id(prepare(own_tree)).values())
    counts = facts(own_tree)["counts"]["priors"]
    assert (counts["entries_with_prior"], counts["order_is_of_time"]) == (0, False)
    assert 0.1 < counts["of_a_greater_age"] / counts["of_another_age"] < 0.9


def test_sections_views_and_a_random_split_are_chosen(tree: Path) -> None:
    impressions = by_id(prepare(tree, sections="impression"))
    assert len(impressions) == 79
    assert {entry["report"] for entry in impressions.values()} == {"1. No invented disease."}
    lateral = by_id(prepare(tree, views="lateral"))
    assert {tuple(entry["views"]) for entry in lateral.values()} == {("LATERAL",)}
    split = prepare(tree, split=[70, 10, 20], seed=1)
    patients = [{entry["subject_id"] for entry in split[name]} for name in ("train", "val", "test")]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients)), "no patient is in two splits"
    assert facts(tree)["policy"]["split"] == [70, 10, 20]


@pytest.mark.parametrize(("suffix", "folder"), [(".jpg", "."), (".png", "PNG"), (".jpg", "small")])
def test_images_are_found_in_the_published_folders_and_formats(suffix: str, folder: str, tmp_path: Path) -> None:
    write_tree(tmp_path, patients=5, suffix=suffix, tree=folder)
    images = "small" if folder == "small" else None
    entries = by_id(prepare(tmp_path, images=images))
    assert all(image.endswith(suffix) for entry in entries.values() for image in entry["image_path"])
    assert facts(tmp_path)["images"] == folder
    AnnotatedReports(root=str(tmp_path), cleaner="none", images=None).check()


def test_dicom_files_are_found_where_they_are_published(tmp_path: Path) -> None:
    write_tree(tmp_path, patients=5, tree="DICOM/Uncompressed")
    for image in (tmp_path / "DICOM").rglob("*.png"):
        image.rename(image.with_suffix(".dcm"))
    images = [image for entry in by_id(prepare(tmp_path)).values() for image in entry["image_path"]]
    assert images
    assert all(image.startswith(("train/", "valid/")) and image.endswith(".dcm") for image in images)
    assert facts(tmp_path)["images"] == "DICOM/Uncompressed"


def edited(root: Path, change: Callable[[list[dict[str, str]]], Any]) -> None:
    with (root / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    write_table(root / TABLE, rows)


def cell(column: str, value: str) -> Callable[[Path], None]:
    return lambda root: edited(root, lambda rows: rows[1].__setitem__(column, value))


WRONG: list[tuple[Callable[[Path], Any], dict[str, Any], str]] = [
    (lambda root: (root / TABLE).unlink(), {}, "task=prepare needs one df_chexpert_plus_*.csv there: there is none"),
    (
        lambda root: shutil.copy(root / TABLE, root / "df_chexpert_plus_2.csv"),
        {},
        "df_chexpert_plus_2.csv, df_chexpert",
    ),
    (lambda root: write_table(root / TABLE, [], COLUMNS[:-1]), {}, f"{TABLE} has no column split: its columns are"),
    (lambda root: shutil.rmtree(root / "PNG"), {}, "there is no train/ or valid/ in PNG, ., DICOM/Uncompressed, DICOM"),
    (lambda root: None, {"images": "JPG"}, "data.images=JPG: there is no train/ or valid/ in it"),
    (lambda root: (root / "PNG/train/patient00003/study1/view1_frontal.png").unlink(), {}, "study1/view1_frontal\n"),
    (cell("split", "validate"), {}, "row 3: split validate is none of train, valid"),
    (cell("split", "valid"), {}, "is in two splits"),
    (
        cell("path_to_image", "../train/patient1/study1/a.jpg"),
        {},
        "row 3: path_to_image ../train/patient1/study1/a.jpg",
    ),
    (cell("deid_patient_id", "patient7"), {}, "row 3: deid_patient_id patient7 is not that of train/patient"),
    (cell("frontal_lateral", "Oblique"), {}, "row 3: frontal_lateral Oblique is not Frontal or Lateral"),
    (cell("age", "old"), {}, "row 3: age old cannot be read"),
    (cell("patient_report_date_order", "first"), {}, "row 3: patient_report_date_order first cannot be read"),
    (lambda root: edited(root, lambda rows: rows.append(rows[0])), {}, "is listed twice"),
    (lambda root: edited(root, list.clear), {}, "no study is left (none)"),
    (lambda root: None, {"reports": "x"}, "prepare.reports is for data=mimic_cxr, data=iu_xray: leave it out with"),
    (lambda root: None, {"split": [0, 0, 0]}, "give the shares of train, val, test"),
]


@pytest.mark.parametrize(("damage", "options", "message"), WRONG)
def test_wrong_files_and_options_are_refused(
    damage: Callable[[Path], Any], options: dict[str, Any], message: str, own_tree: Path
) -> None:
    damage(own_tree)
    assert message in refused("chexpert_plus", own_tree, **options) + "\n"


def test_what_is_missing_or_differs_is_counted(own_tree: Path) -> None:
    (own_tree / "PNG/train/patient00003/study1/view1_frontal.png").unlink()
    edited(
        own_tree,
        lambda rows: [row.update(section_comparison="Other.") for row in rows if "lateral" in row["path_to_image"]],
    )
    entries = by_id(prepare(own_tree, partial=True, sections="findings_else_impression"))
    counts = facts(own_tree)["counts"]
    assert "patient00003_study1" not in entries
    assert (counts["files_missing"], counts["dropped"]["image not on disk"]) == (1, 1)
    assert counts["studies_with_differing_rows"] == sum(len(entry["views"]) == 2 for entry in entries.values())


@pytest.mark.slow
def test_a_tree_is_prepared_trained_on_and_evaluated(tree: Path, tmp_path: Path) -> None:
    data = ("data=chexpert_plus", f"data.root={tree}", f"data.annotation={tmp_path / 'a.json'}", "data.images=PNG")
    metrics = round_trip(*data, cwd=tmp_path, prepare=("prepare.split=[60,20,20]",))
    assert metrics["splits"]["test"]["studies"] > 2
