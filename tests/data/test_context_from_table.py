"""task=prepare prepare.context_from=TABLE: an annotation gets the context that a table has of its studies."""

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prepared import USUAL, Annotation, by_id, read
from round_trip import round_trip
from run_in_process import run_in_process

from r2gen.data import layouts
from r2gen.data.annotation import AnnotatedReports

SIZES = {"train": 12, "val": 4, "test": 4}
REPORT = "The invented heart is of normal size in study {}. The lungs are clear."
HEAD = "uid,MeSH,Problems,image,indication,comparison,findings,impression"  # of Kaggle's indiana_reports.csv


def entry(number: int) -> dict[str, Any]:
    images = [f"{number}/0.png", f"{number}/1.png"]
    return {"id": f"CXR{number}_1_IM-{number:04d}", "report": REPORT.format(number), "image_path": images}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An annotation with R2Gen's ids of IU X-Ray, with its images."""
    numbers = iter(range(1, 1 + sum(SIZES.values())))
    annotation = {split: [entry(next(numbers)) for _ in range(size)] for split, size in SIZES.items()}
    (tmp_path / "annotation.json").write_text(json.dumps(annotation))
    for some in annotation.values():
        for study in some:
            for shade, image in enumerate(study["image_path"]):
                (tmp_path / "images" / image).parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (32, 32), 60 + 90 * shade).save(tmp_path / "images" / image)
    return tmp_path


def write(root: Path, rows: Sequence[Mapping[str, Any]], name: str = "t.csv") -> str:
    """A table below the root; its name."""
    with (root / name).open("w", newline="") as file:
        if name.endswith(".jsonl"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
    return name


def kaggle(number: int) -> dict[str, Any]:
    texts = {"indication": f"Cough for {number} days,\n XXXX", "comparison": "None.", "impression": "Nothing."}
    return {**dict.fromkeys(HEAD.split(","), "x"), "uid": number, "findings": REPORT.format(number), **texts}


def added(root: Path, table: str, *, columns: Mapping[str, str] | None = None) -> tuple[Annotation, str]:
    """The annotation that is written, and what is printed."""
    options = USUAL | {"context_from": str(root / table), "layout": "own"}
    options["columns"] = options["columns"] | (columns or {})
    arguments = {"root": str(root), "annotation": "annotation.json", "images": None}
    printed = layouts.prepare(arguments, options, made={"date": "2001-02-03"}, fresh=True)
    return read(root / "annotation_context.json"), printed


def test_entries_get_the_texts_of_kaggles_table_by_uid_and_keep_the_rest(root: Path) -> None:
    before = (root / "annotation.json").read_bytes()
    rows = [kaggle(number) for number in range(2, 30)]
    rows[0] |= {"indication": "", "comparison": "None"}  # CXR2
    annotation, printed = added(root, write(root, rows))
    assert (root / "annotation.json").read_bytes() == before
    entries = by_id(annotation)
    assert entries["CXR1_1_IM-0001"] == entry(1), "no row"
    assert entries["CXR2_1_IM-0002"] == entry(2) | {"comparison": "None"}, "an empty cell is left out, None is a text"
    assert entries["CXR3_1_IM-0003"] == entry(3) | {"indication": "Cough for 3 days, XXXX", "comparison": "None."}
    assert {split: len(some) for split, some in annotation.items()} == SIZES
    for line in (
        "columns         study=uid, indication=indication, comparison=comparison",
        "rows            28, of which 9 have no entry",
        "entries         train 12, val 4, test 4, of which 1 have no row",
        "entries with    indication 18, comparison 19",
    ):
        assert line in printed.splitlines()
    assert "next: train with data.annotation=annotation_context.json context=all" in printed
    assert (root / "annotation_context.json").stat().st_mode & 0o777 == 0o600


def test_ids_study_ids_and_named_columns_are_matched_and_ages_sexes_and_positions_are_read(root: Path) -> None:
    annotation = read(root / "annotation.json")
    for split in annotation.values():
        for number, study in enumerate(split):
            study["study_id"] = number + {12: 0, 4: 50}[len(split)] + (study in annotation["test"]) * 10
    annotation["train"][2]["technique"] = "Its own."
    (root / "annotation.json").write_text(json.dumps(annotation))
    more = {"age": "045Y", "sex": "female", "technique": "PA and lateral.", "history": "Pain"}
    rows = [
        {"id": study["id"], "study_id": study["study_id"], "exam": study["id"], "views": "Frontal;LL", **more}
        for study in annotation["train"]
    ]
    rows[0] |= {"views": "Frontal", "age": "old"}
    expected = {"age": 45, "sex": "F", "technique": "PA and lateral.", "indication": "Pain"}
    for key in ("id", "study_id", "exam"):
        chosen = [{name: value for name, value in row.items() if name in (key, "views", *more)} for row in rows]
        for name in ("t.csv", "t.tsv", "t.jsonl"):
            columns = {"study": "exam"} if key == "exam" else {}
            made, printed = added(root, write(root, [*chosen, chosen[1]], name), columns=columns)
            entries = made["train"]
            assert entries[1] == annotation["train"][1] | expected | {"views": ["FRONTAL", "LATERAL"]}
            assert "views" not in entries[0], "of another number of images"
            assert "age" not in entries[0]
            assert entries[2]["technique"] == "Its own."
            assert (
                "not used        age that cannot be read 1, technique that the entry has already 1, "
                "views of another number of images 1" in printed
            )
    study = AnnotatedReports(root=str(root), cleaner="none", annotation="annotation_context.json").studies("train")[1]
    assert (study.age, study.sex, study.positions) == (45, "F", ("FRONTAL", "LATERAL"))


def test_the_image_folder_and_section_of_a_prepared_annotation_are_kept(root: Path) -> None:
    (root / "images").rename(root / "scans")
    rows = [
        {"image": image, "study": study["id"], "report": study["report"]}
        for study in by_id(read(root / "annotation.json")).values()
        for image in study["image_path"]
    ]
    (root / "annotation.json").unlink()
    table = write(root, rows)
    words = ("task=prepare", "data=csv", f"prepare.table={table}", "prepare.images=scans", "prepare.split=[8,1,1]")
    assert run_in_process(*words, cwd=root)[0] == 0
    added(root, write(root, [kaggle(number) for number in range(1, 21)]))
    data = AnnotatedReports(root=str(root), cleaner="none", annotation="annotation_context.json", images=None)
    data.check()
    assert data.section == "whole"


ROW = "1,,,,Cough,None.,,\n"
WRONG: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no column of ids": (
        "name,indication\n1,Cough\n",
        (),
        "no column is named id, study_id, uid; the columns are name, ",
    ),
    "no column of context": ("uid,findings\n1,Clear\n", (), "no column holds indication, technique, comparison, age, "),
    "empty columns": (HEAD + "\n1,,,,,,x,y\n", (), "the columns indication, comparison are empty in all rows of "),
    "two values": (HEAD + f"\n{ROW}1,,,,Pain,,,\n", (), "row 3 (id 1): another indication than in row 2. Keep one row"),
    "other ids": (HEAD + "\n901,,,,Cough,,,\n", (), "uid is 901, the id of an entry CXR1_1_IM-0001."),
    "numbers of rows": ("id,uid,indication\n1,1,Cough\n", (), "id is 1, the id of an entry CXR1_1_IM-0001."),
    "the report": (f"uid,history\n1,{REPORT.format(1)}\n", (), "history repeats the report in 1 of 1 studies"),
    "findings": (
        HEAD + f"\n{ROW}",
        ("prepare.columns.context=findings",),
        "are the report itself, which no prompt may",
    ),
    "a column that is not read": (
        HEAD + f"\n{ROW}",
        ("prepare.columns.date=image",),
        "prepare.columns.date is not read",
    ),
    "no such column": (HEAD + f"\n{ROW}", ("prepare.columns.study=u",), "t.csv has no such column"),
    "another option": (HEAD + f"\n{ROW}", ("prepare.views=frontal",), "leave it out with prepare.context_from"),
    "a layout": (
        HEAD + f"\n{ROW}",
        ("prepare.layout=iu_xray",),
        "prepare.layout is not read with prepare.context_from",
    ),
    "no annotation": (HEAD + f"\n{ROW}", ("data.annotation=b.json",), "there is no b.json in it"),
    "no table": (HEAD + f"\n{ROW}", ("prepare.context_from=b.csv",), "b.csv does not exist"),
    "an annotation as a table": (HEAD + f"\n{ROW}", ("prepare.context_from=annotation.json",), ".json is not read"),
    "drawn images": (HEAD + f"\n{ROW}", ("data=phantom",), "data=phantom needs no preparation"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_ends_with_one_line_and_status_2(case: str, root: Path) -> None:
    content, words, message = WRONG[case]
    (root / "t.csv").write_text(content)
    given = {"data": "iu_xray", "data.root": str(root), "prepare.context_from": "t.csv"}
    if "data=phantom" in words:
        del given["data.root"]
    given |= dict(word.split("=", 1) for word in words)
    status, output = run_in_process("task=prepare", *(f"{name}={value}" for name, value in given.items()), cwd=root)
    assert (status, len(output.strip().splitlines())) == (2, 1), output
    assert output.startswith("error: ")
    assert message in output
    assert not list(root.glob("*_context*"))


def test_the_new_annotation_is_replaced_only_on_request(root: Path) -> None:
    write(root, [kaggle(1)])
    words = ("task=prepare", "data=own", f"data.root={root}", "prepare.context_from=t.csv")
    assert run_in_process(*words, cwd=root)[0] == 0
    status, output = run_in_process(*words, cwd=root)
    assert status == 2
    assert output.strip() == (
        f"error: {root}/annotation_context.json exists already. fresh=true replaces it; set data.annotation to a copy "
        "elsewhere, next to which it is written."
    )
    assert run_in_process(*words, "fresh=true", cwd=root)[0] == 0


def test_a_relative_table_is_in_the_working_directory_or_next_to_the_annotation(root: Path, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    write(root, [kaggle(1)])
    words = ("task=prepare", "data=own", f"data.root={root}", "prepare.context_from=t.csv", "fresh=true")
    status, output = run_in_process(*words, cwd=elsewhere)
    assert status == 0, output
    (elsewhere / "t.csv").write_text("uid,nothing\n1,2\n")
    status, output = run_in_process(*words, cwd=elsewhere)
    assert (status, f"{elsewhere / 't.csv'}: no column holds" in output) == (2, True), output


def test_a_faulty_entry_of_the_annotation_is_named(root: Path) -> None:
    write(root, [kaggle(1)])
    (root / "annotation.json").write_text('{"train": [{"id": "CXR1_1_IM-0001", "image_path": ["0.png"]}]}')
    words = ("task=prepare", "data=own", f"data.root={root}", "prepare.context_from=t.csv")
    status, output = run_in_process(*words, cwd=root)
    assert status == 2
    assert 'annotation.json: train[0] (id CXR1_1_IM-0001): has no "report"' in output


def test_without_context_the_experiment_names_this_command(root: Path) -> None:
    status, output = run_in_process("experiment=iu_context", f"data.root={root}", "trainer.device=cpu", cwd=root)
    assert status == 2
    assert "add them with task=prepare prepare.context_from=TABLE (docs/data.md)" in output


@pytest.mark.iu
def test_the_real_table_gives_each_entry_its_indication_comparison_and_positions(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "data/iu_xray_trainval.zip") as archive:
        for name in ("meta.csv", "annotation.json"):
            (tmp_path / name).write_bytes(archive.read(f"iu_xray/{name}"))
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO((tmp_path / "meta.csv").read_text(), newline=""))}
    entries, printed = added(tmp_path, "meta.csv")
    before = by_id(read(tmp_path / "annotation.json"))
    assert "entries with    indication 2,322, comparison 2,098, positions 2,362" in printed
    for id, made in by_id(entries).items():
        row = rows[id]
        texts = {name: " ".join(row[name].split()) for name in ("indication", "comparison")}
        texts = {name: text for name, text in texts.items() if text}
        assert made == before[id] | texts | {"views": row["projections"].upper().split(";")}


@pytest.mark.slow
def test_an_annotation_is_given_context_trained_on_and_evaluated(root: Path) -> None:
    rows = [kaggle(number) for number in range(1, 21)]
    table = write(root, rows)
    prepare = (f"prepare.context_from={table}",)
    train = ("data.annotation=annotation_context.json", "context=all")
    metrics = round_trip("data=iu_xray", f"data.root={root}", cwd=root, prepare=prepare, train=train)
    assert metrics["splits"]["test"]["studies"] == 4
    context = json.loads((root / "run/run.json").read_text())["context"]
    assert context["train"]["indication"] == context["train"]["comparison"] == 12
