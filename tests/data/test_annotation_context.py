"""What an annotation tells besides images and reports: read into the study as it is, or refused with one message."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.reports import Prior, Study
from r2gen.errors import UserError

EVERYTHING = {
    "views": ["Lateral", "antero-posterior"],
    "indication": " ___-year-old man,\n  cough XXXX.  ",
    "context": "ignored, since there is an indication",
    "technique": "PA and lateral views",
    "comparison": "Chest radiograph of ___.",
    "age": "045Y",
    "sex": "female",
    "subject_id": 7,
}


def entry(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "report": f"Report of {id}.", "image_path": [f"{id}/0.png", f"{id}/1.png"], **more}


def read(folder: Path, **splits: list[dict[str, Any]]) -> AnnotatedReports:
    for name in ("a", "b", "c"):
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        for number in (0, 1):
            Image.new("L", (4, 3), 7).save(folder / "images" / name / f"{number}.png")
    (folder / "annotation.json").write_text(json.dumps(splits))
    return AnnotatedReports(root=str(folder), cleaner="iu_xray")


def test_every_optional_key_becomes_part_of_the_study(tmp_path: Path) -> None:
    prior = {"id": "before", "days": 30, "image_path": ["c\\0.png"], "views": ["PA"], "report": "No EFFUSION, 1.5 cm."}
    (study,) = read(tmp_path, train=[entry("a", **EVERYTHING, prior=prior)]).studies("train")
    assert study == Study(
        id="a",
        views=("a/0.png", "a/1.png"),
        report="report of a .",
        positions=("LATERAL", "AP"),
        indication="___-year-old man, cough XXXX.",
        technique="PA and lateral views",
        comparison="Chest radiograph of ___.",
        age=45.0,
        sex="F",
        prior=Prior("before", ("c/0.png",), "no effusion 15 cm .", 30.0, positions=("PA",)),
        patient="7",
    )


def test_a_study_without_optional_keys_is_as_before(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("views", "indication", "technique", "comparison", "age", "sex", "prior", "subject_id"))
    data = read(tmp_path, train=[entry("a"), entry("b", **nothing), entry("c", context="Cough.", views=["", "?"])])
    first, second, third = data.studies("train")
    assert first == Study("a", ("a/0.png", "a/1.png"), "report of a .")
    assert second == Study("b", ("b/0.png", "b/1.png"), "report of b .")
    assert (third.indication, third.positions) == ("Cough.", ())


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_prior_is_another_entry_wherever_it_is_and_shares_its_images_and_report(
    order: tuple[str, str], tmp_path: Path
) -> None:
    entries = {"a": entry("a", views=["PA", "LL"]), "b": entry("b", prior={"id": "a", "days": 0.25})}
    studies = {s.id: s for s in read(tmp_path, val=[entries[id] for id in order]).studies("val")}
    prior = studies["b"].prior
    assert prior == Prior("a", ("a/0.png", "a/1.png"), "report of a .", 0.25, positions=("PA", "LATERAL"))
    assert prior.views is studies["a"].views
    assert prior.report is studies["a"].report
    assert prior.positions is studies["a"].positions


def test_a_prior_has_its_report_or_its_images_or_no_days(tmp_path: Path) -> None:
    priors = [{"id": "x", "report": "Clear."}, {"id": "x", "image_path": ["c/0.png"], "report": "  ", "days": None}]
    studies = read(tmp_path, train=[entry(id, prior=prior) for id, prior in zip("ab", priors, strict=True)])
    assert [study.prior for study in studies.studies("train")] == [
        Prior("x", (), "clear ."),
        Prior("x", ("c/0.png",), None),
    ]


def test_repeated_texts_and_positions_are_held_once(tmp_path: Path) -> None:
    same = {"comparison": "None available.", "views": ["PA", "LL"], "subject_id": "p 1"}
    first, second = read(tmp_path, train=[entry("a", **same), entry("b", **same)]).studies("train")
    for text, other in ((first.comparison, second.comparison), (first.patient, second.patient)):
        assert text is other
    assert first.positions is second.positions
    assert sys.getrefcount(first.comparison) > 2


def test_the_images_of_a_prior_are_checked(tmp_path: Path) -> None:
    prior = {"id": "x", "image_path": ["c/0.png", "gone.png"]}
    data = read(tmp_path, train=[entry("a"), entry("b", prior=prior)])
    with pytest.raises(UserError, match=r"train\[1\] \(id b\), prior: image gone.png does not exist"):
        data.check()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"views": "PA"}, r"views 'PA' is not a list of texts"),
        ({"views": [1, 2]}, r"views \[1, 2\] is not a list of texts"),
        ({"views": ["PA"]}, "views has 1 items and image_path 2: give one for each image"),
        ({"indication": 3}, "indication 3 is not a string"),
        ({"technique": ["x"]}, "is not a string"),
        ({"comparison": "half \ud800 a pair"}, "surrogate"),
        ({"age": "old"}, "age 'old' is no age of 0 to 130 years: correct it, or leave it out"),
        ({"age": -1}, "age -1 is no age"),
        ({"age": True}, "age True is no age"),
        ({"sex": "Q"}, "sex 'Q' is neither F nor M"),
        ({"sex": 1}, "sex 1 is neither F nor M"),
        ({"prior": "a"}, "prior 'a' is not an object such as"),
        ({"prior": {"days": 3}}, "the prior has no usable id: None is not a string"),
        ({"prior": {"id": "\ud800", "days": 3}}, "surrogate"),
        ({"prior": {"id": "b", "days": "3"}}, "prior b: days '3' is not a number"),
        ({"prior": {"id": "b", "days": float("inf")}}, "prior b: days inf is more than 130 years: correct it"),
        ({"prior": {"id": "b", "days": 10**12}}, "prior b: days 1000000000000 is more than 130 years"),
        ({"prior": {"id": "b", "days": -(10**15)}}, "is more than 130 years"),
        ({"prior": {"id": "b", "image_path": "b/0.png"}}, "prior b: image_path 'b/0.png' must be a list"),
        ({"prior": {"id": "b", "image_path": ["../x.png"]}}, "prior b: image_path ../x.png leaves the image folder"),
        ({"prior": {"id": "b", "image_path": ["b/0.png"], "views": ["PA", "LL"]}}, "prior b: views has 2 items"),
        ({"prior": {"id": "b", "report": 3}}, "prior b: report 3 is not a string"),
        ({"prior": {"id": "z", "days": 3}}, "the prior z is no entry of the annotation: correct its id, or write"),
        ({"prior": {"id": "z", "days": 3, "report": "?"}}, "the prior z is no entry of the annotation"),
    ],
)
def test_a_fault_names_its_entry_and_the_fix(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read(tmp_path, train=[entry("b"), entry("a", **keys)])
    assert "annotation.json: train[1] (id a): " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ages_and_sexes_of_data_sets_are_read() -> None:
    ages = {45: 45, "45": 45, "045Y": 45, "006M": 0.5, "90+": 90, " 7 years ": 7, 0: 0, "36 years old": 36, 12.5: 12.5}
    assert {age: age_of(age) for age in ages} == ages
    assert [age_of(missing) for missing in (None, float("nan"), "", "Unknown")] == [None] * 4
    sexes = {"F": "F", "m": "M", "Male": "M", "FEMALE": "F", "": None, "O": None, "unknown": None, None: None}
    assert {sex: sex_of(sex) for sex in sexes} == sexes
