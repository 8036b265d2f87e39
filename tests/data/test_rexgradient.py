"""task=prepare of ReXGradient-160K: sections, views, patients and priors, and what is refused.

All texts are invented (tests/support/rexgradient_tree.py), since ReXGradient-160K is not available here.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_files import change_json
from prepared import Annotation, by_id, facts, refused
from prepared import prepare as prepare_layout
from rexgradient_tree import write_tree
from run_in_process import run_in_process


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rexgradient")
    write_tree(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("rexgradient", root, **options)


def test_rexgradient_keeps_its_sections_views_and_patients(tree: Path) -> None:
    splits = prepare(tree)
    entry = by_id(splits)["pGRD00000001_aGRA00000011_s1.2.826.0.1.1.1"]
    assert entry["indication"] == "Invented cough, question of nothing."
    assert (entry["comparison"], entry["technique"]) == ("Invented radiograph of ___.", "XR CHEST INVENTED")
    assert entry["prior"] == {"id": "pGRD00000001_aGRA00000010_s1.2.826.0.1.1.0", "days": 31}
    assert (entry["age"], entry["sex"], entry["subject_id"]) == (0.58, "M", "GRD00000001")
    assert facts(tree)["counts"]["values_not_read"] == {"age": 19}
    after_left_out = by_id(splits)["pGRD00000020_aGRA00000201_s1.2.826.0.1.20.1"]["prior"]
    assert after_left_out["id"].endswith(".20.0"), "a study without findings is still a prior"
    assert after_left_out["report"] == "No invented acute process."
    assert after_left_out["image_path"][0].startswith("GRD00000020/")
    by_number = {views: entry["views"] for entry in splits["train"] if (views := len(entry["image_path"]))}
    assert by_number[2][0] in ("PA", "AP")
    frontal = prepare(tree, views="frontal", sections="impression")
    assert {view for entry in frontal["train"] for view in entry["views"]} == {"PA", "AP"}
    assert {entry["report"] for entry in frontal["train"]} == {"No invented acute process."}
    assert facts(tree)["policy"] == {"views": "frontal", "partial": False, "sections": "impression"}


def rexgradient(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda root: change_json(root / "metadata/train_metadata_view_position.json", change)


def first(studies: dict[str, Any]) -> Any:
    return next(iter(studies.values()))


def text_of_train(change: Callable[[str], str]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        file = root / "metadata/train_metadata_view_position.json"
        file.write_text(change(file.read_text()))

    return write


def patient_of_two_splits(root: Path) -> None:
    train = json.loads((root / "metadata/train_metadata_view_position.json").read_text())
    change_json(
        root / "metadata/test_metadata_view_position.json",
        lambda test: first(test).update(PatientID=first(train)["PatientID"]),
    )


def with_the_first_study_twice(text: str) -> str:
    key, entry = next(iter(json.loads(text).items()))
    return f"{text.rstrip()[:-1]}, {json.dumps(key)}: {json.dumps(entry)}}}"


WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (rexgradient(lambda train: first(train).update(Comparison="a\ud800")), "a text contains half of a surrogate pair"),
    (lambda root: shutil.rmtree(root / "metadata"), "there is no metadata/train_metadata_view_position"),
    (text_of_train(lambda text: text[:-200]), "json cannot be read (character"),
    (text_of_train(lambda text: f"[{text}]"), "it does not begin with {"),
    (text_of_train(lambda text: text + "{}"), "the object does not end the file"),
    (text_of_train(lambda text: "version https://git-lfs.github.com/spec/v1\nsize 9\n"), "git-LFS pointer"),
    (rexgradient(lambda train: train.update(dict.fromkeys(train, 3))), "is 3 and not an object"),
    (rexgradient(lambda train: first(train).pop("ImagePath")), "ImagePath None is not a list of paths"),
    (rexgradient(lambda train: first(train)["ImagePath"].append("x.png")), "is not a list of 2 views"),
    (
        rexgradient(lambda train: first(train).update(ImagePath=["../../x.png"], ImageViewPosition=["PA"])),
        "ImagePath ../../x.png leaves deid_png/",
    ),
    (rexgradient(lambda train: first(train).pop("PatientID")), "the study has no patient"),
    (text_of_train(with_the_first_study_twice), "is also in train_metadata_view_position.json, study 1"),
    (patient_of_two_splits, "a patient belongs to one split"),
]


@pytest.mark.parametrize(("break_it", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_variant_is_refused_in_one_line(break_it: Callable[[Path], Any], words: str, own_tree: Path) -> None:
    break_it(own_tree)
    message = refused("rexgradient", own_tree)
    assert "\n" not in message
    assert words in message


def test_an_image_whose_name_no_file_can_have_is_missing(own_tree: Path) -> None:
    rexgradient(lambda train: first(train).update(ImagePath=["x" * 300], ImageViewPosition=["PA"]))(own_tree)
    assert refused("rexgradient", own_tree).startswith("images are missing below")
    (own_tree / "table.csv").write_text(f"id,image,report\n1,{'x' * 300}.png,clear lungs\n")
    status, output = run_in_process("task=prepare", "data=csv", "prepare.table=table.csv", cwd=own_tree)
    assert (status, f"{'x' * 99}" in output) == (2, True), output
