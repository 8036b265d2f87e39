"""task=prepare: MIMIC-CXR's layout becomes an annotation, with the counts and the provenance of what was kept.

All texts are invented (tests/support/mimic_tree.py), since MIMIC-CXR is not available here.
"""

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from forked_run import run
from mimic_tree import METADATA_COLUMNS, SPLIT_COLUMNS, write_table, write_tree
from prepared import Annotation, by_id, facts
from prepared import prepare as prepare_layout
from smallest_run import SMALLEST

from r2gen.data import mimic
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.mimic_sections import section_of, sections
from r2gen.data.mimic_tables import days_of
from r2gen.errors import UserError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mimic")
    write_tree(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("mimic_cxr", root, **options)


def test_sections_are_found_in_any_layout() -> None:
    report = """WET READ: ___ 9:11 PM
 FINDINGS: of the wet read, not of the report.
 ______________________________________________________________________________
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // pneumonia?
\tCOMPARISON :  ___.
 FINDINGS:\x20
   No consolidation: lungs are clear.  Tube ends
 at the carina.

 DATE:  another heading, of no known section.

 FINDINGS:  Second film unchanged.
 IMPRESSION
 1. No acute process.
 2. Small heart.

 NOTIFICATION:  Dr. ___ was told.
"""
    texts = sections(report)
    assert texts["findings"] == "No consolidation: lungs are clear. Tube ends at the carina. Second film unchanged."
    assert texts["impression"] == "1. No acute process. 2. Small heart."
    assert texts["indication"] == "___F with cough // pneumonia?"
    assert (texts["comparison"], texts["examination"]) == ("___.", "CHEST (PA AND LAT)")
    assert "wet_read" not in texts
    assert sections(report.replace("\n", "\r\n")) == texts


def test_a_report_without_headings_has_a_last_paragraph() -> None:
    assert sections("FINAL REPORT\n Portable chest.\n\n Lungs are\n clear.\n") == {"last_paragraph": "Lungs are clear."}
    assert sections("FINAL REPORT\n INDICATION:  Cough.\n") == {"indication": "Cough."}
    assert sections("FINDINGS:\n\n IMPRESSION:  Fine.") == {"impression": "Fine."}
    assert sections("") == {}


def test_findings_are_found_under_headings_of_views_and_organs_and_in_small_letters() -> None:
    def findings(text: str) -> str | None:
        return mimic.choose(sections(f"FINAL REPORT\n{text}"), mimic.Policy())[0]

    title = " PA AND LATERAL CHEST RADIOGRAPH:  ___\n\n HISTORY:  Cough.\n\n"
    assert findings(f"{title} PORTABLE AP CHEST:  Lungs are clear throughout.\n\n IMPRESSION:  Fine.") == (
        "Lungs are clear throughout."
    )
    assert (
        findings(f"{title} FINDINGS:  Clear.\n\n IMPRESSION:  Fine.\n\n CHEST:  Not this, it has no heading.")
        == "Clear."
    )
    assert findings(f"{title} IMPRESSION:  Fine.") is None, "a title alone is no findings"
    assert findings(" CHEST PAIN HISTORY:  A long one of many words.\n IMPRESSION:  Fine.") is None
    assert findings(" AP CHEST, 5:11 A.M., ___ COMPARED TO ___\n\n IMPRESSION:  Fine.") is None
    organs = "AP VIEW:  Low.\n LUNGS:  Clear.\n HEART:  Normal.\n"
    assert findings(f" FINDINGS:\n {organs}\n NOTIFICATION:  none") == "AP VIEW: Low. LUNGS: Clear. HEART: Normal."
    assert findings(" Findings: Clear.\n Heart: normal.\n\n Impression:\n Fine.\n") == "Clear. Heart: normal."
    after = sections(" IMPRESSION:  Fine.\n ____________\n FINAL ADDENDUM\n A rib.")
    assert (after["impression"], after["addendum"]) == ("Fine.", "A rib.")


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("FINIDNGS", "findings"),
        ("FINDING", "findings"),
        ("IMPRESSOIN", "impression"),
        ("MPRESSION", "impression"),
        ("FINDINGS / IMPRESSION", "findings_impression"),
        ("IMPRESSION  AND FINDINGS", "findings_impression"),
        ("FINDINGS & IMPRESSION", "findings_impression"),
        ("COMPARISION", "comparison"),
        ("COMPARISONS", "comparison"),
        ("REASON FOR  EXAMINATION", "indication"),
        ("HISTROY", "history"),
        ("CONCLUSION", "impression"),
        ("PREVIOUS", None),
        ("CHEST", None),
        ("PA AND LATERAL VIEWS", None),
        ("IMAGES", None),
    ],
)
def test_misspelt_headings_are_recognised(heading: str, section: str | None) -> None:
    assert section_of(heading) == section


BOTH = {"findings": "F.", "impression": "I."}


@pytest.mark.parametrize(
    ("parts", "chosen"),
    [  # findings, impression, findings+impression, findings_else_impression
        (BOTH, ["F.", "I.", "F. I.", "F."]),
        ({"findings": "F."}, ["F.", None, None, "F."]),
        ({"impression": "I."}, [None, "I.", None, "I."]),
        ({"findings_impression": "B."}, ["B.", "B.", "B.", "B."]),
        ({"last_paragraph": "L."}, [None, None, None, None]),
        ({}, [None, None, None, None]),
    ],
)
def test_the_section_policy_chooses_the_reference(parts: dict[str, str], chosen: list[str | None]) -> None:
    policies = ("findings", "impression", "findings+impression", "findings_else_impression")
    choices = [mimic.choose(parts, mimic.Policy(sections=policy)) for policy in policies]
    assert [report for report, _ in choices] == chosen
    assert all(reason for report, reason in choices if report is None)
    if "last_paragraph" in parts:
        assert mimic.choose(parts, mimic.Policy(without_headings="last_paragraph"))[0] == "L."


def test_a_prepared_annotation_has_the_official_splits_views_and_context(tree: Path) -> None:
    splits = prepare(tree)
    data = AnnotatedReports(root=str(tree), cleaner="mimic_cxr", images="files")
    counts = facts(tree)["counts"]
    assert {split: len(data.studies(split)) for split in splits} == counts["entries"]
    assert sum(counts["studies_read"].values()) == counts["studies_kept"] + sum(counts["dropped"].values())
    assert sum(counts["entries"].values()) == counts["studies_kept"]
    assert set(counts["dropped"]) == {"neither findings nor impression", "no findings"}
    table = gzip.decompress((tree / "mimic-cxr-2.0.0-split.csv.gz").read_bytes()).decode().splitlines()[1:]
    official = {row.split(",")[1]: row.split(",")[3] for row in table}
    for split, entries in splits.items():
        for entry in entries:
            assert official[str(entry["study_id"])] == {"val": "validate"}.get(split, split)
            order = [("PA", "AP", "LATERAL", "LL", "").index(view) for view in entry["views"]]
            assert order == sorted(order), "frontal images come first"
    study = data.studies("train")[0]
    assert study.indication == "___F with a made up cough // invented question?"
    assert "invented wet read" not in " ".join(study_of_train.report for study_of_train in data.studies("train"))
    assert data.image(study.views[0]).size == (32, 32)


def test_the_prior_is_the_previous_study_of_the_patient_by_date_and_time(tree: Path) -> None:
    """Also one that is no entry, whose images and report are then written out (tests/support/mimic_tree.py)."""
    entries = by_id(prepare(tree))
    found = [(entry, entry["prior"]) for entry in entries.values() if "prior" in entry]
    # From 00:45:30 to 21:30:14.531 of 28 February, and from there to 09:00 of 1 March 2180, a leap year.
    assert {prior["days"] for _, prior in found} == {0.8644, 1.479}
    for entry, prior in found:
        assert prior["id"][:-2] == entry["id"][:-2], "of the same patient"
        assert prior["id"] != entry["id"]
        assert prior["id"] not in entries or set(prior) == {"id", "days"}
    written = {entry["id"]: prior for entry, prior in found if prior["id"] not in entries}
    counts = facts(tree)["counts"]["priors"]
    assert counts == {"entries_with_prior": len(found), "written_out": len(written), "time_unknown": 0}
    prior = written["s50000502"]
    assert prior["id"] == "s50000501"
    assert prior["report"] == "No invented acute process."
    assert all((tree / "files" / path).is_file() for path in prior["image_path"])
    assert len(prior["views"]) == len(prior["image_path"])
    images = [entry for entries in prepare(tree, entries="film").values() for entry in entries]
    ids = {entry["id"] for entry in images}
    assert sum("prior" in entry and entry["prior"]["id"] in ids for entry in images) > 20


@pytest.mark.parametrize(
    ("date", "time", "days"),
    [
        ("21800228", "0.0", 0),
        ("21800228", "120000", 0.5),
        ("21800301", "235959.999", 2.99999998843),
        ("21800228", "", None),
        ("", "0.0", None),
    ],
)
def test_dates_and_times_are_read_as_dicom_writes_them(date: str, time: str, days: float | None) -> None:
    day = days_of("21800228", "0")
    assert day is not None
    found = days_of(date, time)
    assert found == days or (found is not None and found - day == pytest.approx(days, abs=1e-6))


def test_a_wrong_date_or_missing_column_of_times_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", SPLIT_COLUMNS, split_table())
    (tmp_path / "files").mkdir()
    file = tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz"
    for date, time in (("2180-01-01", "0"), ("21801301", "0"), ("21800101", "250000"), ("21800101", "nan")):
        write_table(file, METADATA_COLUMNS, [("a", "", "", "", "PA", "", "", date, time, "")])
        with pytest.raises(UserError, match=r"line 2: StudyDate .* are not like 21800506 and 213014\.531"):
            prepare(tmp_path)
    write_table(file, METADATA_COLUMNS[:7], [("a", "", "", "", "PA", "", "")])
    with pytest.raises(UserError, match="has no column StudyDate, StudyTime"):
        prepare(tmp_path)


def test_the_annotation_depends_on_data_and_policy_only(tree: Path) -> None:
    prepare(tree, date="2001-02-03")
    before, first_facts = (tree / "annotation.json").read_bytes(), facts(tree)
    prepare(tree, date="2002-03-04")
    assert (tree / "annotation.json").read_bytes() == before
    assert facts(tree) == first_facts | {"date": "2002-03-04"}
    assert (tree / "annotation.json").stat().st_mode & 0o777 == 0o600
    images = prepare(tree, entries="film", views="frontal", sections="impression")
    assert facts(tree)["policy"]["entries"] == "film"
    assert set(facts(tree)["counts"]["films_by_view"]) == {"AP", "PA"}
    assert all(entry["image_path"][0].endswith(f"/{entry['id']}.jpg") for entry in images["train"])
    AnnotatedReports(root=str(tree), cleaner="mimic_cxr", images="files").check()
    with pytest.raises(UserError, match=r"exists already\. fresh=true replaces it"):
        prepare(tree, fresh=False)


def test_missing_files_are_refused_or_left_out_and_counted(own_tree: Path) -> None:
    whole = sum(len(entries) for entries in prepare(own_tree).values())
    image = next(own_tree.glob("files/p10/p*/s*/*.jpg"))
    report = next(own_tree.glob("files/p13/p*/*.txt"))
    image.unlink()
    report.unlink()
    with pytest.raises(UserError, match=r"2 faults\n  p13/.*\n  p10/.*\nprepare.partial=true leaves out"):
        prepare(own_tree)
    assert sum(len(entries) for entries in prepare(own_tree, partial=True).values()) == whole - 1
    assert facts(own_tree)["counts"]["dropped"]["report or images not on disk"] == 1
    AnnotatedReports(root=str(own_tree), cleaner="mimic_cxr", images="files").check()


def test_a_report_that_is_no_text_is_refused(own_tree: Path) -> None:
    report = next(own_tree.glob("files/p13/p*/*.txt"))
    report.write_bytes(b"FINDINGS: \xff")
    with pytest.raises(UserError, match=r"\.txt cannot be read: byte 11, 0xff, is not UTF-8"):
        prepare(own_tree)
    report.unlink()
    os.mkfifo(report)
    with pytest.raises(UserError, match=r"\.txt cannot be read: it is not a file"):
        prepare(own_tree)


def split_table(*changes: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [("a", "50", "10000001", "train"), *changes]


@pytest.mark.parametrize(
    ("split_rows", "words"),
    [
        (split_table(("b", "50", "10000001", "test")), "line 3: study 50 is in two splits, or of two patients"),
        (split_table(("b", "51", "10000001", "test")), "line 3: patient 10000001 is in two splits"),
        (split_table(("a", "50", "10000001", "train")), "line 3: image a is listed twice"),
        (split_table(("c", "52", "10000002", "train")), "image c is not in mimic-cxr-2.0.0-metadata.csv.gz"),
        (split_table(("b", "51", "10000002", "val")), "split 'val' is none of train, validate, test"),
        (split_table(("../../b", "51", "10000002", "train")), "are not ids"),
        (split_table(("b", "51")), "line 3: 2 columns instead of 4"),
    ],
)
def test_tables_that_disagree_are_refused_with_the_line(
    split_rows: list[tuple[str, ...]], words: str, tmp_path: Path
) -> None:
    metadata = [(name, "", "", "", "PA", "", "", "", "", "") for name in "ab"]
    write_table(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA_COLUMNS, metadata)
    write_table(tmp_path / "mimic-cxr-2.0.0-split.csv.gz", SPLIT_COLUMNS, split_rows)
    (tmp_path / "files").mkdir()
    with pytest.raises(UserError, match=words):
        prepare(tmp_path)


def test_missing_and_broken_tables_are_reported(own_tree: Path) -> None:
    table = own_tree / "mimic-cxr-2.0.0-split.csv.gz"
    whole = table.read_bytes()
    for broken in (whole[:-20], b"no gzip", gzip.compress(b"\xff\xfe"), gzip.compress(b"dicom_id,study_id\na,b\n")):
        table.write_bytes(broken)
        with pytest.raises(UserError, match=r"split\.csv\.gz (cannot be read|has no column)"):
            prepare(own_tree)
    table.unlink()
    with pytest.raises(UserError, match=r"needs one mimic-cxr-2.0.0-split.csv.gz there: there is none"):
        prepare(own_tree)


def test_the_commands_prepare_train_and_evaluate(tree: Path, tmp_path: Path) -> None:
    data = ("data=mimic_cxr", f"data.root={tree}", f"data.annotation={tmp_path / 'a.json'}")
    done = run("task=prepare", *data, "prepare.sections=findings_else_impression", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "studies read   train 60, val 10, test 9" in done.stdout
    small = [override for override in SMALLEST if not override.startswith(("data.", "trainer.epochs"))]
    done = run(*data, *small, "trainer.max_steps=20", "trainer.epochs=9", "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/metrics.json").read_text())["splits"]["test"]["studies"] == 9
    (tree / "files/p10").rename(tree / "files/away")
    done = run("task=evaluate", "run_dir=run", "generation=beam3", cwd=tmp_path, smallest=False)
    (tree / "files/away").rename(tree / "files/p10")
    assert done.returncode == 2
    assert re.search(r"error: image .*files/p10/.* does not exist", done.stderr), done.stderr
