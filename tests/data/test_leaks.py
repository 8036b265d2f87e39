"""A prior that is not an earlier study is refused, and texts that give away the report are counted by task=audit."""

import json
from pathlib import Path
from typing import Any

import pytest
from composed import composed
from PIL import Image
from run_in_process import run_in_process

from r2gen.data.annotation import AnnotatedReports
from r2gen.data.leaks import context_statistics, judged_priors, refuse_wrong_priors
from r2gen.data.reports import Prior, Study
from r2gen.errors import UserError
from r2gen.launch.parts_check import check_input


def study(id: str, report: str = "the lungs are clear .", **more: Any) -> Study:
    return Study(id, (f"{id}.png",), report, **more)


def prior(id: str, **more: Any) -> Prior:
    return Prior(id, more.pop("views", ()), **{"days": 3.0, **more})


SPLITS = {
    "train": [
        study("good", prior=prior("first", report="no effusion .")),
        study("first", patient="p1"),
        study("itself", prior=prior("itself")),
        study("own image", prior=prior("other name", views=("own image.png",))),
        study("later", prior=prior("first", days=-2.0)),
        study("same day", prior=prior("first", days=0.0)),
        study("unknown", prior=prior("first", days=None)),
        study("other patient", patient="p2", prior=prior("first")),
        study("same report", prior=prior("first", report="the  lungs are clear .")),
        study("first of two", prior=prior("second of two")),
        study("second of two", prior=prior("first of two", days=None)),
        study("leads to two", prior=prior("first of two")),
        study("own image, spelt otherwise", prior=prior("elsewhere", views=("./own image, spelt otherwise.png",))),
        study("leak", prior=prior("tested")),
        study("leaked image", prior=prior("elsewhere", views=("tested.png",))),
    ],
    "test": [study("tested")],
}


def test_each_wrong_prior_is_found_and_no_other() -> None:
    assert {fault.study.id: fault.kinds for fault in judged_priors(SPLITS)} == {
        "itself": ("itself",),
        "own image": ("itself",),
        "later": ("not_earlier",),
        "same day": ("not_earlier",),
        "unknown": ("order_unknown",),
        "other patient": ("other_patient",),
        "same report": ("same_report",),
        "first of two": ("circle",),
        "second of two": ("circle", "order_unknown"),
        "own image, spelt otherwise": ("itself",),
        "leak": ("other_split",),
        "leaked image": ("other_split",),
    }


def test_texts_that_give_away_the_report_are_counted() -> None:
    report = "no effusion . the left lung is clear ."
    studies = [
        study("repeats", report, indication="Old report: The left lung -- is CLEAR!", comparison="No effusion."),
        study("differs", report, indication="The left lung is clearly ill. No effusion.", technique="PA"),
        study("nothing", report, comparison="Chest radiograph of ___.", age=40.0, prior=prior("x", report="clear .")),
    ]
    statistics = context_statistics({"val": studies}, lambda text: "effusion" in text)["val"]
    assert statistics["repeats_report"] == {"indication": ["repeats"], "technique": [], "comparison": []}
    assert statistics["comparison_with_findings"] == ["repeats"]
    counts = {"indication": 2, "technique": 1, "comparison": 2, "age": 1, "sex": 0, "prior": 1, "positions": 0}
    assert statistics["studies"] == counts


def annotation(folder: Path, priors: dict[str, Any], **more: Any) -> Path:
    """Entries a, b and c of patients 1, 1 and 2, of which some have a prior."""
    (folder / "images").mkdir(parents=True)
    entries = []
    for id, patient in (("a", 1), ("b", 1), ("c", 2)):
        Image.new("L", (4, 3), 7).save(folder / "images" / f"{id}.png")
        prior = {"prior": priors[id]} if id in priors else {}
        entries.append({"id": id, "report": f"{id} is clear", "image_path": [f"{id}.png"], "subject_id": patient})
        entries[-1] |= prior | more
    (folder / "annotation.json").write_text(json.dumps({"train": entries[:2], "val": entries[2:]}))
    return folder


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (
            {"b": {"id": "b", "days": 3}},
            r"train\[1\] \(id b\): the prior b is the study itself.* name an earlier study",
        ),
        (
            {"b": {"id": "a", "days": 0}},
            r"the prior a is 0 days before it, which is not earlier: .* or remove the prior",
        ),
        ({"a": {"id": "b", "days": -2.5}}, r"train\[0\] \(id a\): the prior b is -2.5 days before it"),
        (
            {"a": {"id": "b"}, "b": {"id": "a"}},
            r"the prior b has this study among its own priors",
        ),
        ({"b": {"id": "c", "days": 3}}, r"the prior c is a study of another patient: name one of the same"),
    ],
)
def test_a_wrong_prior_is_refused_with_its_entry_and_the_fix(
    priors: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = AnnotatedReports(root=str(annotation(tmp_path / "data", priors)), cleaner="none")
    with pytest.raises(UserError, match=message):
        refuse_wrong_priors(data, head="data=own")


def test_training_refuses_what_the_audit_counts(tmp_path: Path) -> None:
    priors = {"b": {"id": "a", "days": 0}, "a": {"id": "old", "report": "clear"}}
    root = annotation(tmp_path / "data", priors, comparison="No pleural effusion.", views=["PA"])
    status, output = run_in_process("data=own", f"data.root={root}", "run_dir=made", cwd=tmp_path)
    assert (status, "error: data=own: train[1] (id b): the prior a is 0 days before it" in output) == (2, True), output
    assert not (tmp_path / "made").exists()
    status, output = run_in_process("task=audit", "data=own", f"data.root={root}", "out=audit", cwd=tmp_path)
    assert status == 0, output
    lines = {" ".join(line.split()) for line in output.splitlines()}
    assert {
        "studies with positions of the images 2 1",
        "studies with a prior study 2 0",
        "comparison repeats the report 0 0",
        "comparison states findings 2 1",
        "prior study is not earlier 1 0",
        "prior study has no days, so it may be later 1 0",
        "prior study is of another patient 0 0",
    } <= lines
    written = json.loads((tmp_path / "audit/audit.json").read_text())["context"]["train"]
    assert (written["priors"]["not_earlier"], written["priors"]["order_unknown"]) == (["b"], ["a"])


def test_a_command_says_what_it_does_not_use_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = annotation(tmp_path / "data", {"b": {"id": "a", "days": 0.5}}, indication="Cough.", age=40)
    check_input(composed("data=own", f"data.root={root}"))
    assert "not used with context=none: indication 3, age 3, prior 1 (of 3 studies)" in capsys.readouterr().out
    check_input(composed("data=own", f"data.root={root}", "context=indication"))
    assert "not used with context=indication: age 3, prior 1 (of 3 studies)" in capsys.readouterr().out
    check_input(composed("data=own", f"data.root={root}", "context=all"))
    assert "not used" not in capsys.readouterr().out
