"""Reports of studies without references: those of the same images in a batch, and a fault is a result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import CONTEXT, SIZE_PX, TOKENIZER, report_generator

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch, collate
from r2gen.data.context import StudyContext
from r2gen.data.dataset import Example
from r2gen.data.dicom_tags import with_tags
from r2gen.data.listed_studies import StudyImages
from r2gen.data.reports import Prior, Study
from r2gen.evaluate.study_reports import Written, write_reports

DECODING = Decoding(max_new_tokens=12)
CPU = torch.device("cpu")


def array(seed: int) -> Any:
    return np.random.default_rng(seed).integers(256, size=(SIZE_PX, SIZE_PX), dtype=np.uint8)


def written(model: Any, studies: list[StudyImages], **options: Any) -> dict[str, Written]:
    reports = write_reports(model, studies, DECODING, device=CPU, **{"batch_size": 3, **options})
    return {report.id: report for report in reports}


def test_reports_are_those_of_single_studies_and_faults_are_results() -> None:
    model = report_generator(lively=True).eval()
    studies = [StudyImages(f"s{seed}", [array(seed)] * (1 + seed % 2)) for seed in range(7)]
    broken = [
        StudyImages("gone", ["nowhere.png"]),
        StudyImages("none", []),
        StudyImages("known", [], "row 3: no image"),
    ]
    reports = written(model, [broken[0], *studies[:4], *broken[1:], *studies[4:]])
    assert reports.keys() == {study.id for study in (*studies, *broken)}
    assert reports["gone"].error == "image nowhere.png does not exist"
    assert reports["none"].error == "a study needs at least one image"
    assert reports["known"].error == "row 3: no image"
    for study in studies:
        images_BVHW = torch.stack([torch.from_numpy(image) for image in study.images])[None]
        views_BV = torch.ones(1, len(study.images), dtype=torch.bool)
        batch = Batch((study.id,), images_BVHW, views_BV, torch.zeros(1, 0, dtype=torch.long))
        assert reports[study.id].report == model.generate(batch, DECODING)[0].text


def test_a_study_may_have_a_context() -> None:
    model, context = report_generator(lively=True, context=True).eval(), StudyContext(CONTEXT, TOKENIZER.encode)
    prior = Prior("p", ("",), report="The heart is large.")
    facts = Study("x", ("",), "", indication="Cough.", prior=prior)
    studies = [
        StudyImages("x", [array(0)], context=facts, prior_images=[array(1)]),
        StudyImages("other prior", [array(0)], context=replace(facts, id="other prior"), prior_images=[array(2)]),
        StudyImages("nothing", [array(0)]),
        StudyImages("lost", [array(0)], context=replace(facts, id="lost"), prior_images=["nowhere.png"]),
    ]
    reports = written(model, studies, context=context)
    assert reports["lost"].error == "image nowhere.png does not exist"
    assert len({reports[id].report for id in ("x", "other prior", "nothing")}) == 3
    for study in studies[:3]:
        assert written(model, [study], context=context)[study.id] == reports[study.id]


@pytest.mark.parametrize("decoder", ["tree", "transformers"])
def test_a_command_whose_studies_all_fail_ends(decoder: Any) -> None:
    reports = written(report_generator().eval(), [StudyImages("x", ["nowhere.png"])], decoder=decoder)
    assert list(reports) == ["x"]


def test_a_study_with_more_images_than_the_encoder_joins_is_a_fault() -> None:
    model = report_generator(views="concat").eval()
    reports = written(model, [StudyImages("x", [array(0)] * 5), StudyImages("y", [array(0)])])
    assert reports["x"].error == "it has 5 images, and this model reads at most 4"
    assert not reports["y"].error


def test_damaged_files_are_faults(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n")
    reports = written(report_generator().eval(), [StudyImages("x", [file])])
    assert "cannot be read" in reports["x"].error


def test_what_is_known_about_a_study_and_its_dicom_header_reaches_the_prompt() -> None:
    pydicom = pytest.importorskip("pydicom")
    model, context = report_generator(lively=True, context=True).eval(), StudyContext(CONTEXT, TOKENIZER.encode)
    header = pydicom.Dataset()
    header.ViewPosition, header.PatientAge = "LL", "051Y"
    prior = Prior("p", ("",), "No effusion.", 3.0, positions=("PA",))
    full = Study("full", ("", ""), "", positions=("PA", ""), indication="Cough.", prior=prior)
    studies = [
        StudyImages("full", [array(1), array(2)], context=full, prior_images=[array(3)]),
        StudyImages("bare", [array(1), array(2)]),
        StudyImages("gone", [array(1)], context=Study("gone", ("",), "", prior=prior)),
        StudyImages("later", [array(1)], context=Study("later", ("",), "", prior=replace(prior, days=-2))),
        StudyImages("p", [array(1)], context=Study("p", ("",), "", prior=replace(prior, days=None))),
    ]
    reports = written(model, studies, context=context)
    assert reports["gone"].error == "an image of its prior study does not exist"
    assert reports["p"].error.startswith("the prior p is the study itself")
    assert reports["later"].error.startswith("the prior p is -2 days before it, which is not earlier")
    for id, study, prior_VHW in (
        ("full", full, torch.from_numpy(array(3))[None]),
        ("bare", Study("bare", ("", ""), ""), None),
    ):
        images_VHW = torch.from_numpy(np.stack([array(1), array(2)]))
        example = Example(id, images_VHW, torch.zeros(0, dtype=torch.long), context.example(study, prior_VHW))
        assert reports[id].report == model.generate(collate([example]), DECODING)[0].text
    assert reports["full"].report != reports["bare"].report
    filled = with_tags(full, [array(1), header])
    assert (filled.positions, filled.age) == (("PA", "LATERAL"), 51.0)


def test_headers_are_read_only_where_the_study_says_so() -> None:
    pydicom = pytest.importorskip("pydicom")
    image = pydicom.Dataset()
    image.PhotometricInterpretation, image.SamplesPerPixel, image.PixelRepresentation = "MONOCHROME2", 1, 0
    image.Rows, image.Columns, image.BitsAllocated, image.BitsStored, image.HighBit = SIZE_PX, SIZE_PX, 8, 8, 7
    image.PatientAge, image.PixelData = "051Y", array(1).tobytes()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    model, context = report_generator(lively=True, context=True).eval(), StudyContext(CONTEXT, TOKENIZER.encode)
    bare = Study("x", ("",), "")
    studies = [
        StudyImages("filled", [image], context=bare),
        StudyImages("age 51", [image], context=replace(bare, age=51.0), fills=False),
        StudyImages("as it is", [image], context=bare, fills=False),
    ]
    reports = {id: report.report for id, report in written(model, studies, context=context).items()}
    assert reports["filled"] == reports["age 51"] != reports["as it is"]
