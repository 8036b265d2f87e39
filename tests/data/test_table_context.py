"""task=prepare data=csv: texts, age, sex, positions and priors from the columns of a table."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prepared import Annotation, prepare_table

from r2gen.data.annotation import AnnotatedReports
from r2gen.data.leaks import judged_priors
from r2gen.data.reports import Prior, Study
from r2gen.data.table_context import day_of

HEAD = (
    "image,study_id,patient_id,report,split,ViewPosition,indication,Technique,comparison,PatientAge,Sex,StudyDate,"
    "StudyTime\n"
)
ROWS = (
    "0.png,s1,p1,Clear.,train,PA,Cough ___.,PA and lateral,None.,061Y,F,20190102,080556.5\n"
    "1.png,s1,p1,Clear.,train,LL,Cough ___.,Another technique,None.,061Y,F,20190102,080559\n"
    "2.png,s2,p1,New effusion.,train,AP,,,,61,female,2019-01-02,20:05:56.5\n"
    "3.png,s3,p1,No effusion.,train,AP,,,,61,F,01.02.2019,\n"
    "4.png,s4,p2,Clear.,val,AP,,,,,,,\n"
    "5.png,s5,p2,Clear lungs.,val,AP,,,,ancient,?,soon,\n"
)


def prepared(folder: Path, content: str, **options: Any) -> tuple[Annotation, str]:
    """The annotation of a table, and what was printed."""
    (folder / "images").mkdir(exist_ok=True)
    for number in range(6):
        Image.new("L", (8, 8), 90 + number).save(folder / "images" / f"{number}.png")
    return prepare_table(folder / "t.csv", content, **options)


def test_a_table_with_every_column_becomes_studies_with_priors(tmp_path: Path) -> None:
    _, printed = prepared(tmp_path, HEAD + ROWS)
    assert "priors         of 2 entries (0 priors are no entries); 2 studies have no date" in printed
    assert "not read       age 1, date 1, sex 1, such as ancient (study s5); left out" in printed
    data = AnnotatedReports(root=str(tmp_path), cleaner="none")
    first, second, third = data.studies("train")
    same = {"age": 61.0, "sex": "F", "patient": "p1"}
    assert first == Study(
        id="s1",
        views=("0.png", "1.png"),
        report="Clear.",
        positions=("PA", "LATERAL"),
        indication="Cough ___.",
        technique="PA and lateral",
        comparison="None.",
        **same,  # type: ignore[arg-type]
    )
    assert second.prior == Prior("s1", ("0.png", "1.png"), "Clear.", 0.5, positions=("PA", "LATERAL"))
    assert third.prior is not None
    assert (third.prior.id, third.prior.days) == ("s2", pytest.approx(29.163, abs=1e-3))  # from its time to midnight
    assert [study.prior for study in data.studies("val")] == [None, None]
    assert (data.studies("val")[1].age, data.studies("val")[1].sex) == (None, None)
    assert not list(judged_priors({split: data.studies(split) for split in ("train", "val")}))


def test_studies_of_one_day_are_no_priors_of_each_other_where_a_time_is_missing(tmp_path: Path) -> None:
    rows = "".join(
        f"{n}.png,s{n},p,Clear {n}.,2020-05-0{n // 2 + 1},{time}\n" for n, time in enumerate(["10:00", "", "9:00"])
    )
    annotation, _ = prepared(tmp_path, "image,study,patient,report,date,time\n" + rows, split=(100, 0, 0))
    priors = {entry["id"]: entry.get("prior") for entry in annotation["train"]}
    assert priors["s0"] is None
    assert priors["s1"] is None
    assert priors["s2"]["id"] in ("s0", "s1")
    assert priors["s2"]["days"] == 1.375


def test_a_study_that_is_left_out_is_a_prior_that_is_written_out(tmp_path: Path) -> None:
    rows = "0.png,s0,p,,Normal.,2020-05-01\n1.png,s1,p,Clear.,,2020-05-03\n"
    table = "image,study,patient,findings,impression,date\n" + rows
    annotation, printed = prepared(tmp_path, table, split=(100, 0, 0), sections="findings")
    (entry,) = annotation["train"]
    assert entry["prior"] == {"id": "s0", "image_path": ["0.png"], "report": "Normal.", "days": 2.0}
    assert "(1 priors are no entries)" in printed


def test_sections_of_whole_reports_are_the_context_where_the_table_has_no_column_of_it(tmp_path: Path) -> None:
    whole = "INDICATION: Cough ___.\nTECHNIQUE: PA.\nCOMPARISON: None.\nFINDINGS: Clear.\nIMPRESSION: Normal."
    table = f'image,study,technique,report\n0.png,s0,AP,"{whole}"\n1.png,s1,,"HISTORY: Fever.\nFINDINGS: Effusion."\n'
    annotation, _ = prepared(tmp_path, table, split=(100, 0, 0), sections="findings")
    first, second = annotation["train"]
    keys = ("report", "indication", "technique", "comparison")
    assert [first.get(key) for key in keys] == ["Clear.", "Cough ___.", "AP", "None."]
    assert [second.get(key) for key in keys] == ["Effusion.", "Fever.", None, None]


def test_without_patients_or_dates_there_are_no_priors(tmp_path: Path) -> None:
    for column, value in (("patient", "p"), ("date", "2020-05-01")):
        rows = "".join(f"{n}.png,s{n},Clear {n}.,{value}\n" for n in range(3))
        annotation, printed = prepared(tmp_path, f"image,study,report,{column}\n{rows}", split=(100, 0, 0))
        assert "priors" not in printed
        assert not any("prior" in entry for entry in annotation["train"])


def test_dates_and_times_are_read_in_usual_spellings() -> None:
    day = day_of("2019-02-01", "")[0]
    noon = (day, 0.5)
    spellings = [
        *(("20190201", "120000"), ("20190201", "120000.000"), ("2019/2/1", "12:00"), ("01.02.2019", "12:00:00")),
        *(("2019-02-01 12:00:00", ""), ("2019-02-01T12:00:00+00:00", "")),
    ]
    assert {day_of(*spelling) for spelling in spellings} == {noon}
    assert day_of("2019-02-01 00:00:00", "") == day_of("20190201", "1200") == day_of("20190201", "later") == (day, None)
    assert day_of("20190201", "80556.875")[1] == pytest.approx((8 * 3600 + 5 * 60 + 56.875) / 86400)
    for none in ("01/02/2019", "2019", "yesterday", "20191345"):
        with pytest.raises(ValueError, match=r"date|month|day"):
            day_of(none, "")


def test_headers_of_dicom_images_fill_what_the_table_has_no_column_for(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for name, view in (("a", "POSTEROANTERIOR"), ("b", "LL")):
        header = pydicom.Dataset()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.3"
        header.ViewPosition, header.PatientAge, header.PatientSex = view, "006M", "M"
        header.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    (tmp_path / "c.dcm").write_bytes(b"damaged")
    rows = "b.dcm;a.dcm,s1,Clear.,F\nc.dcm,s2,Clear lungs.,\n"
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / f"{name}.dcm").rename(tmp_path / "images" / f"{name}.dcm")
    annotation, _ = prepared(tmp_path, "image,study,report,sex\n" + rows, split=(100, 0, 0))
    first, second = annotation["train"]
    assert first["image_path"] == ["a.dcm", "b.dcm"]  # frontal first
    assert (first["views"], first["age"], first["sex"]) == (["PA", "LATERAL"], 0.5, "F")  # the column decides
    assert second.keys().isdisjoint(("views", "age", "sex"))
