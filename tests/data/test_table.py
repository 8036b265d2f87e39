"""task=prepare data=csv: a table of studies becomes an annotation, and every fault names its row and the fix."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prepared import Annotation, prepare_table
from run_in_process import run_in_process

from r2gen.data.annotation import AnnotatedReports, prepared_images
from r2gen.data.image_folder import ImageFolder
from r2gen.data.table_file import open_table
from r2gen.errors import UserError

HEAD = "image,study_id,patient_id,report,split\n"
ROWS = (
    "a/1.png,s1,p1,The heart is large.,train\n"
    "a/2.png,s1,p1,The heart is large.,train\n"
    'b/1.png,s2,p2,"No effusion, no edema.",val\n'
    "b/2.png,s3,p3,Clear lungs.,test\n"
)
REPORTS = {"s1": "The heart is large.", "s2": "No effusion, no edema.", "s3": "Clear lungs."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 90).save(file)
    return tmp_path


def prepared(folder: Path, content: str | bytes, *, name: str = "t.csv", **options: Any) -> Annotation:
    return prepare_table(folder / name, content, **options)[0]


def reports_of(annotation: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["report"] for entries in annotation.values() for entry in entries}


JSON_LINES = "".join(
    json.dumps({"image": images, "study_id": id, "report": REPORTS[id], "split": split}) + "\n"
    for id, images, split in (
        ("s1", ["a/1.png", "a/2.png"], "train"),
        ("s2", "b/1.png", "dev"),
        ("s3", "b/2.png", "test"),
    )
)
ONE_ROW_EACH = (
    "Image_Path,StudyID,Report,Split\n{0}a/1.png{1}{0}a/2.png{2},s1,The heart is large.,Training\n"
    'b/1.png,s2,"No effusion, no edema.",validate\nb/2.png,s3,Clear lungs.,TEST\n'
)
TABLES = {
    "one row per image": ("t.csv", HEAD + ROWS),
    "byte order mark and Windows line ends": ("t.csv", ("\ufeff" + HEAD + ROWS).replace("\n", "\r\n")),
    "semicolons": (
        "t.csv",
        "sep=;\n" + (HEAD + ROWS).replace('"', "").replace(", no", "§").replace(",", ";").replace("§", ", no"),
    ),
    "tabs": ("t.tsv", (HEAD + ROWS).replace('"', "").replace(", no", "§").replace(",", "\t").replace("§", ", no")),
    "Windows paths": ("t.csv", HEAD + ROWS.replace("a/", "C:\\scans\\a\\").replace("b/", "images\\b\\")),
    "absolute paths and capital letters": ("t.csv", HEAD + ROWS.replace("a/1.png", "/mnt/x/a/1.PNG")),
    "paths without suffix": ("t.csv", HEAD + ROWS.replace(".png", "")),
    "one row per study": ("t.csv", ONE_ROW_EACH.format("", ";", "")),
    "JSON lines": ("t.jsonl", JSON_LINES),
}
TABLES["a JSON list of images"] = (
    "t.csv",
    ONE_ROW_EACH.replace("{0}a/1.png{1}{0}a/2.png{2}", '"[""a/1.png"", ""a/2.png""]"'),
)
TABLES["a column for each image"] = (
    "t.csv",
    "image1,image2,study_id,report,split\na/1.png,a/2.png,s1,The heart is large.,train\n"
    'b/1.png,,s2,"No effusion, no edema.",val\nb/2.png,,s3,Clear lungs.,test\n',
)


@pytest.mark.parametrize("form", TABLES)
def test_a_table_becomes_the_same_studies_in_every_form(form: str, folder: Path) -> None:
    name, content = TABLES[form]
    annotation = prepared(folder, content, name=name)
    assert reports_of(annotation) == REPORTS
    assert [len(annotation[split]) for split in ("train", "val", "test")] == [1, 1, 1]
    assert annotation["train"][0]["image_path"] == ["a/1.png", "a/2.png"]
    data = AnnotatedReports(root=str(folder), cleaner="none", images=None)
    data.check()
    assert data.section == "whole"
    assert data.studies("val")[0].report == "No effusion, no edema."


FAULTS = {
    "a missing image": (
        HEAD + ROWS.replace("b/1", "b/9"),
        r"row 4 \(study s2\): image b/9.png does not exist.*partial=true",
    ),
    "an empty report": (HEAD + ROWS.replace("Clear lungs.", " nan "), r"row 5 \(study s3\): the report is empty"),
    "no image": (HEAD + ROWS.replace("b/2.png", ""), r"row 5 \(study s3\): no image \(image is empty\)"),
    "another report": (
        HEAD + ROWS.replace("large.,train\na/2", "small.,train\na/2"),
        r"row 3 .*another report than in row 2",
    ),
    "an id of two patients": (
        HEAD + ROWS.replace("a/2.png,s1,p1", "a/2.png,s1,p9"),
        r"row 3 .*another patient than in row 2",
    ),
    "an image of two studies": (
        HEAD + ROWS.replace("b/2", "b/1"),
        r"row 5 \(study s3\): image b/1.png is also in row 4",
    ),
    "a patient in two splits": (HEAD + ROWS.replace("p3", "p2"), r"row 5 .*patient p2 is in test, and in val in row 4"),
    "an unknown split": (
        HEAD + ROWS.replace(",test", ",holdout"),
        r"row 5 .*split is holdout, none of train, val and test",
    ),
    "a path that leaves the folder": (HEAD + ROWS.replace("b/2", "../b/2"), "leaves the image folder"),
    "a row with too many fields": (HEAD + ROWS.replace('"', ""), r"row 4: 6 fields instead of 5. Enclose"),
    "an open quote": (HEAD + ROWS.replace('edema."', "edema."), "Close every quote"),
    "a study without id": (HEAD + ROWS.replace("s3", ""), "row 5: the study has no id"),
    "two columns of a name": ("image,image,report\n", "two columns are named image"),
    "no column of reports": ("image,study\na/1.png,s1\n", "no column holds reports; the columns are image, study"),
    "no column of images": ("picture,report\na/1.png,x\n", "no column names the images or the study"),
    "an empty file": ("", "is empty"),
    "UTF-16": ((HEAD + ROWS).encode("utf-16"), "is UTF-16.*prepare.encoding=utf-16"),
    "cp1252": (
        HEAD.encode() + b"a/1.png,s1,p1,The heart\x92s size,train\n",
        r"line 2: byte 0x92 is not UTF-8. Add prepare.encoding=cp",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_one_message_with_its_row_and_the_fix(fault: str, folder: Path) -> None:
    content, words = FAULTS[fault]
    with pytest.raises(UserError, match=f"(?s){words}"):
        prepared(folder, content)
    assert not (folder / "annotation.json").exists()


def test_an_encoding_that_is_named_is_read(folder: Path) -> None:
    content = (HEAD + ROWS).replace("Clear lungs.", "Poumons clairs, aérés").replace("Poumons clairs, aérés", '"é"')
    assert reports_of(prepared(folder, content.encode("cp1252"), encoding="cp1252"))["s3"] == "é"


def test_what_is_missing_is_left_out_and_counted_if_the_user_says_so(folder: Path) -> None:
    rows = ROWS.replace("a/2", "a/9").replace("b/1", "b/9").replace("Clear lungs.", "")
    annotation = prepared(folder, HEAD + rows, partial=True)
    assert [entry["image_path"] for entry in annotation["train"]] == [["a/1.png"]]
    assert not annotation["val"] + annotation["test"]
    facts = json.loads((folder / "annotation.provenance.json").read_text())
    assert facts["counts"]["dropped"] == {"no image": 1, "no report": 1}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": "pic"}, "prepare.columns.image=pic: t.csv has no such column"),
        ({"image": []}, "give a column, or a list"),
        ({"report": "reports"}, "did you mean report"),
        ({"study": ["a", "b"]}, "give one column"),
    ],
)
def test_a_column_that_does_not_exist_is_refused(columns: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(UserError, match=words):
        prepared(folder, HEAD + ROWS, columns=columns)


def test_columns_can_be_named(folder: Path) -> None:
    content = (HEAD + ROWS).replace("image,study_id", "scan,exam no").replace("report,split", "befund,satz")
    named = {"image": ["scan"], "study": "exam no", "report": "befund", "split": "satz"}
    assert reports_of(prepared(folder, content, columns=named)) == REPORTS


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (None, "FINDINGS: Large heart. IMPRESSION: Failure."),
        ("findings", "Large heart."),
        ("impression", "Failure."),
        ("findings+impression", "Large heart. Failure."),
    ],
)
def test_sections_are_taken_from_whole_reports_and_from_columns(
    sections: str | None, expected: str, folder: Path
) -> None:
    whole = 'image,report\na/1.png,"FINDINGS: Large heart.\nIMPRESSION: Failure."\n'
    columns = "image,findings,impression\na/1.png,Large heart.,Failure.\n"
    for content in (whole, columns):
        options: dict[str, Any] = {"sections": sections, "split": (100, 0, 0)}
        report = prepared(folder, content, **options)["train"][0]["report"]
        assert report == (expected if content is whole or sections else "Large heart.")


def test_the_split_is_by_patient_and_more_rows_move_no_patient(folder: Path) -> None:
    folder.joinpath("images/c").mkdir()
    names = [f"c/{number}.png" for number in range(200)]
    for name in names:
        os.link(folder / "images/a/1.png", folder / "images" / name)
    rows = [f"{name},p{number // 4},report {number}\n" for number, name in enumerate(names)]
    homes = []
    for count in (120, 200):
        annotation = prepared(folder, "image,patient_id,report\n" + "".join(rows[:count]))
        patients = {split: {entry["subject_id"] for entry in entries} for split, entries in annotation.items()}
        assert not patients["train"] & patients["val"] | patients["val"] & patients["test"]
        homes.append({patient: split for split, some in patients.items() for patient in some})
    assert homes[0].items() <= homes[1].items()
    assert 0.6 < len(annotation["train"]) / 200 < 0.95
    with pytest.raises(UserError, match=r"would be empty .*Set prepare.split"):
        prepared(folder, "image,patient_id,report\n" + rows[0])
    with pytest.raises(UserError, match=r"(test|val) would be empty .*Use prepare.seed=\d+"):
        prepared(folder, "image,patient_id,report\n" + "".join(rows[::4][:6]), split=(98, 1, 1))


def test_a_study_without_image_column_has_the_images_of_its_folder(folder: Path) -> None:
    annotation = prepared(folder, "study_id,report,split\na,Large heart.,train\nB,Clear.,test\n")
    assert annotation["train"][0]["image_path"] == ["a/1.png", "a/2.png"]
    assert annotation["test"][0]["image_path"] == ["b/1.png", "b/2.png"]
    with pytest.raises(UserError, match=r"row 2 \(study z\): no folder, file or DICOM study below .* has this id"):
        prepared(folder, "study_id,report,split\nz,Large heart.,train\n")


def test_an_ambiguous_name_is_refused_and_a_folder_decides(folder: Path) -> None:
    images = ImageFolder(folder / "images")
    with pytest.raises(LookupError, match="is one of 2 files"):
        images.find("1.png")
    assert images.find("D:\\old\\b\\1.png") == "b/1.png"
    assert images.find("images/b/1.png") == "b/1.png"
    Image.new("L", (8, 8)).save(folder / "images/stray.png")
    assert images.find("/old/stray.png") == "stray.png"
    for name in ("z/stray.png", "z/1.png"):  # of another folder, and so of another study
        with pytest.raises(LookupError, match="does not exist"):
            images.find(name)
    assert images.studies() == {"a": ["a/1.png", "a/2.png"], "b": ["b/1.png", "b/2.png"]}


def test_images_recorded_by_a_file_from_elsewhere_are_not_read_outside_its_folder(folder: Path) -> None:
    prepared(folder, HEAD + ROWS)
    facts = folder / "annotation.provenance.json"
    assert prepared_images(folder / "annotation.json") == "images"
    for images in ("/etc", "../other", 3):
        facts.write_text(json.dumps({**json.loads(facts.read_text()), "images": images}))
        assert prepared_images(folder / "annotation.json") == "images"


def test_the_files_are_for_their_owner_only_and_the_table_decides_the_bytes(folder: Path) -> None:
    prepared(folder, HEAD + ROWS)
    first = (folder / "annotation.json").read_bytes()
    for name in ("annotation.json", "annotation.provenance.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    prepared(folder, HEAD + ROWS)
    assert (folder / "annotation.json").read_bytes() == first


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    if name != "t.csv":
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=r"(is not read|does not exist)\. "):
        open_table(tmp_path / name)


@pytest.mark.parametrize("form", ["parquet", "dataset", "dataset of splits"])
def test_parquet_and_saved_datasets_are_read_with_the_images_in_them(form: str, folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = [
        {
            "image": {"bytes": (folder / "images/a/1.png").read_bytes(), "path": "x.png"},
            "id": f"s{n}",
            "report": f"r{n}",
        }
        for n in range(3)
    ]
    table = pa.Table.from_pylist(rows)
    names = ("train", "validation", "test")
    path = folder / ("t.parquet" if form == "parquet" else "saved")
    if form == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, path)
    else:
        parts = {path / name: table.slice(n, 1) for n, name in enumerate(names)} if "splits" in form else {path: table}
        for part, content in parts.items():
            part.mkdir(parents=True)
            with pa.OSFile(str(part / "data.arrow"), "wb") as out, pa.ipc.new_stream(out, content.schema) as stream:
                stream.write_table(content)
            (part / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        if "splits" in form:
            (path / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}))
    shares = (80, 10, 10) if "splits" in form else (100, 0, 0)
    annotation, _ = prepare_table(path, annotation="a.json", split=shares)
    assert reports_of(annotation) == {"s0": "r0", "s1": "r1", "s2": "r2"}
    assert len(annotation["train"]) == (1 if "splits" in form else 3)
    AnnotatedReports(root=str(folder), cleaner="none", images=None, annotation="a.json").check()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=csv"], "give prepare.table=FILE"),
        (["data=csv", "prepare.table=nowhere.csv"], "nowhere.csv does not exist"),
        (["data=csv", "prepare.table=t.csv", "prepare.images=nowhere"], "Set prepare.images to the folder"),
        (["data=csv", "prepare.table=t.csv", "prepare.split=[1,2]"], "give the shares of train, val, test"),
        (["data=csv", "prepare.table=t.csv", "prepare.encoding=klingon"], "prepare.encoding=klingon is unknown"),
        (
            ["data=csv", "prepare.table=t.csv", "prepare.entries=film"],
            "prepare.entries is for data=mimic_cxr: leave it out",
        ),
        (["data=csv", "prepare.table=t.csv", "prepare.columns.imige=x"], "unknown option prepare.columns.imige"),
    ],
)
def test_a_wrong_command_has_one_message_and_status_2(words: list[str], message: str, folder: Path) -> None:
    (folder / "t.csv").write_text(HEAD + ROWS)
    status, output = run_in_process("task=prepare", *words, cwd=folder)
    assert (status, output.count("\n")) == (2, 1), output
    assert output.startswith("error: ")
    assert message in output


def test_the_command_prints_the_next_one(folder: Path) -> None:
    (folder / "t.csv").write_text(HEAD + ROWS)
    status, output = run_in_process("task=prepare", "data=csv", "prepare.table=t.csv", cwd=folder)
    assert status == 0, output
    assert output.splitlines()[-1] == f"next: python run.py data=own data.root={folder}"
    status, output = run_in_process("data=csv", cwd=folder)
    assert status == 2
    assert "data=csv is for task=prepare" in output
