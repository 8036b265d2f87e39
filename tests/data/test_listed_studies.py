"""The studies that get reports: of folders, tables and annotations without references, and of lists and data frames."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2gen.data.cleaning import clean_report
from r2gen.data.listed_studies import list_studies
from r2gen.data.prepared_files import sha256_of_file
from r2gen.data.reports import Prior, Study
from r2gen.data.studies_in_memory import studies_of
from r2gen.errors import UserError

GRAY = np.zeros((4, 4), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "s1/f.png", "s1/l.png", "deep/s2/f.jpg", ".hidden/x.png"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 90).save(file)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path


def listed(source: Path, **options: Any) -> dict[str, list[str] | str]:
    """By id: the names of the images, or the error."""
    return {
        study.id: study.error or [image.name for image in study.images] for study in list_studies(source, **options)
    }


def test_in_a_folder_each_image_is_a_study_and_each_folder_of_images(folder: Path) -> None:
    (folder / "images" / "loop").symlink_to(folder / "images")
    (folder / "images" / "z").symlink_to(folder / "other")
    (folder / "other").mkdir()
    Image.new("L", (8, 8), 90).save(folder / "other" / "g.png")
    expected = {"a.png": ["a.png"], "deep/s2": ["f.jpg"], "s1": ["f.png", "l.png"], "z": ["g.png"]}
    assert listed(folder / "images") == expected


def test_dicom_files_of_a_study_are_one_study_wherever_they_are(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for number, uid in enumerate(("1.2.3", "1.2.3", "1.2.4")):
        dataset = pydicom.Dataset()
        dataset.StudyInstanceUID = uid
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.{number}"
        (tmp_path / f"series{number}").mkdir()
        dataset.save_as(tmp_path / f"series{number}" / f"IM{number}", enforce_file_format=True)
    assert listed(tmp_path) == {"1.2.3": ["IM0", "IM1"], "1.2.4": ["IM2"]}


def test_a_table_needs_no_report_and_a_missing_image_is_an_error_of_its_study(folder: Path) -> None:
    table = folder / "t.csv"
    table.write_text("path,study\ns1/f.png,x\ns1/l.png,x\na.png,y\nb.png,z\n")
    studies = listed(table)
    assert studies.pop("z") == "row 5 (study z): image b.png does not exist"
    assert studies == {"x": ["f.png", "l.png"], "y": ["a.png"]}
    table.write_text("scan,study\na.png,y\na.png,z\n")
    with pytest.raises(UserError, match=r"row 3 \(study z\): image a.png is also in row 2"):
        listed(table, columns={"image": "scan"})


def test_an_annotation_needs_no_report(folder: Path) -> None:
    file = folder / "annotation.json"
    file.write_text(json.dumps({"test": [{"id": "x", "image_path": ["a.png"]}, {"id": "y", "image_path": ["b.png"]}]}))
    assert listed(file) == {"x": ["a.png"], "y": "image b.png does not exist"}
    file.write_text(
        json.dumps({"test": [{"id": "x", "image_path": ["a.png"]}], "val": [{"id": "x", "image_path": []}]})
    )
    with pytest.raises(UserError, match="id x is used twice"):
        listed(file)


@pytest.mark.parametrize("named", ["/tmp", "../elsewhere", ""])
def test_the_provenance_of_an_annotation_names_no_folder_outside(folder: Path, named: str) -> None:
    file = folder / "annotation.json"
    file.write_text(json.dumps({"test": [{"id": "x", "image_path": ["a.png"]}]}))
    folder.joinpath("annotation.provenance.json").write_text(
        json.dumps({"images": named, "annotation_sha256": sha256_of_file(file)})
    )
    assert listed(file) == {"x": ["a.png"]}, "as data.images does in training"


def test_an_annotation_may_have_a_context(folder: Path) -> None:
    file = folder / "annotation.json"
    first = {"id": "x", "image_path": ["a.png"], "report": "REPORT,  NORMAL"}
    prior = {"id": "x", "days": 3}
    second = {"id": "y", "image_path": ["s1/f.png"], "indication": "Cough.", "views": ["pa"], "prior": prior}
    lost = {"id": "z", "image_path": ["s1/l.png"], "prior": {"id": "w", "image_path": ["b.png"]}}
    file.write_text(json.dumps({"val": [first], "test": [second, lost]}))
    x, y, z = list_studies(file, cleaner="mimic_cxr")
    assert not x.fills, "training reads no DICOM headers with an annotation"
    assert x.context is not None
    assert x.context.prior is None
    assert y.context is not None
    assert (y.context.indication, y.context.positions) == ("Cough.", ("PA",))
    assert y.context.prior is not None
    assert (y.context.prior.report, y.context.prior.days) == (clean_report("REPORT,  NORMAL", "mimic_cxr"), 3)
    assert [image.name for image in y.prior_images] == ["a.png"]
    assert (z.error, z.prior_images) == ("", ())  # a run that reads them says so
    second["prior"] = {"id": "nowhere"}
    file.write_text(json.dumps({"val": [first], "test": [second]}))
    with pytest.raises(UserError, match="the prior nowhere is no entry"):
        list_studies(file)


def test_what_holds_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"studies=.*nowhere does not exist"):
        list_studies(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no study in it"):
        list_studies(tmp_path)


def test_a_list_has_a_study_for_each_image_or_list_of_images() -> None:
    studies, index = studies_of([GRAY, ["a.png", Path("b.png")], Image.new("L", (4, 4))])
    assert [len(study.images) for study in studies] == [1, 2, 1]
    assert index is None
    assert len(studies_of(GRAY)[0]) == len(studies_of("a.png")[0]) == 1
    for source in ("t.csv", Path(__file__).parent):
        with pytest.raises(
            UserError, match=r"is not an image\. Pass a list of images or a data frame, or use task=predict"
        ):
            studies_of(source)
    with pytest.raises(UserError, match="a int is no list of studies"):
        studies_of(3)


def test_a_data_frame_has_the_columns_of_a_table(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"Image": ["s1/f.png", "s1/l.png", "a.png"], "study_id": [7, 7, 8]})
    studies, index = studies_of(frame, images=folder / "images")
    assert [(study.id, [image.name for image in study.images]) for study in studies] == [
        ("7", ["f.png", "l.png"]),
        ("8", ["a.png"]),
    ]
    studies, index = studies_of(pandas.DataFrame({"image": [GRAY, [GRAY, GRAY]]}, index=["p", "q"]))
    assert ([len(study.images) for study in studies], list(index)) == ([1, 2], ["p", "q"])
    with pytest.raises(UserError, match=r"row 0 of the data frame: image z.png does not exist"):
        studies_of(pandas.DataFrame({"image": ["z.png"]}), images=folder)
    with pytest.raises(UserError, match="the data frame has no column of images; its columns are picture"):
        studies_of(pandas.DataFrame({"picture": [GRAY]}))


def test_what_a_table_or_data_frame_says_besides_images_comes_with_the_study(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = "path,study,view,indication,age,sex\ns1/f.png,x,PA,Cough.,45,F\ns1/l.png,x,LL,Another.,,\na.png,y,,,old,\n"
    (folder / "t.csv").write_text(rows)
    expected = [
        Study("x", ("", ""), "", positions=("PA", "LATERAL"), indication="Cough.", age=45.0, sex="F"),
        Study("y", ("",), ""),
    ]
    assert [study.context for study in list_studies(folder / "t.csv")] == expected
    frame = pandas.read_csv(folder / "t.csv")
    assert [study.context for study in studies_of(frame, images=folder / "images")[0]] == expected


def test_what_an_annotation_says_besides_images_comes_with_the_study(folder: Path) -> None:
    file = folder / "annotation.json"
    written = {"id": "elsewhere", "image_path": ["gone.png"], "report": "Clear."}
    entries = [
        {"id": "x", "image_path": ["a.png"], "views": ["PA"], "age": "045Y", "prior": {"id": "y", "days": 2}},
        {"id": "y", "image_path": ["s1/f.png"], "report": "No EFFUSION.", "prior": written},
        {"id": "z", "image_path": ["s1/l.png"], "prior": {"id": "x"}},
    ]
    file.write_text(json.dumps({"test": entries}))
    x, y, z = list_studies(file, cleaner="iu_xray")
    prior = Prior("y", ("s1/f.png",), "no effusion .", 2.0)
    assert x.context == Study("x", ("a.png",), "", positions=("PA",), age=45.0, prior=prior)
    assert x.prior_images == (folder / "images/s1/f.png",)
    assert y.context is not None
    assert (y.context.prior, y.prior_images) == (Prior("elsewhere", ("gone.png",), "clear ."), ())
    assert z.context is not None
    assert z.context.prior == Prior("x", ("a.png",), None, positions=("PA",))
    file.write_text(json.dumps({"test": [{"id": "x", "image_path": ["a.png"], "sex": "Q"}]}))
    with pytest.raises(UserError, match=r"test\[0\] \(id x\): sex 'Q' is neither F nor M"):
        list_studies(file)
