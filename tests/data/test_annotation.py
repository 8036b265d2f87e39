"""A data set in R2Gen's format is read whole and in order, and every fault in it is named before training starts."""

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from r2gen.data.annotation import AnnotatedReports
from r2gen.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def shared() -> Path:
    return Path(os.environ.get("R2GEN_SHARED", REPOSITORY.parent / "shared"))


def entry(study: str, **changes: Any) -> dict[str, Any]:
    return {"id": study, "report": f"Report of {study}.", "image_path": [f"{study}/0.png"]} | changes


def write(root: Path, annotation: Any, *, films: tuple[str, ...] = ("a/0.png", "a/1.png", "b/0.png")) -> Path:
    for film in films:
        (root / "images" / film).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 7).save(root / "images" / film)
    (root / "annotation.json").write_text(annotation if isinstance(annotation, str) else json.dumps(annotation))
    return root


def read(root: Path) -> AnnotatedReports:
    return AnnotatedReports(root=str(root), cleaner="iu_xray")


def test_studies_keep_order_views_and_their_whole_cleaned_report(tmp_path: Path) -> None:
    long = " ".join(["opacity"] * 500)
    write(tmp_path, {"train": [entry("b", report=long), entry("a", image_path=["a/1.png", "a/0.png"])], "val": []})
    data = read(tmp_path)
    assert [study.id for study in data.studies("train")] == ["b", "a"]
    assert data.studies("train")[0].report == f"{long} ."
    assert data.studies("train")[1].views == ("a/1.png", "a/0.png")
    assert not data.studies("val")
    assert not data.studies("test")
    film = data.film("a/1.png")
    assert (film.mode, film.size, film.getpixel((0, 0))) == ("L", (4, 3), 7)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("{", "is no JSON"),
        ([], "not an object"),
        ({"train": [], "valid": []}, 'has a split "valid"'),
        ({"train": {}}, '"train" is no list'),
        ({"train": []}, "holds no study"),
        ({"train": ["a"]}, r"train\[0\] is no object"),
        ({"val": [entry("a"), {"id": "b", "report": "x"}]}, r'val\[1\] has no "image_path"'),
        ({"train": [entry("a", id=7)]}, "id 7 is no text"),
        ({"train": [entry("a", report=None)]}, "report None is no text"),
        ({"train": [entry("a", report="")]}, r"train\[0\] \(id a\): the report is empty"),
        ({"train": [entry("a", report="?!")]}, "the report is empty"),
        ({"train": [entry("a", image_path=[])]}, "names no film"),
        ({"train": [entry("a", image_path="a/0.png")]}, "must be a list"),
        ({"train": [entry("a", image_path=["../a/0.png"])]}, "leaves the image folder"),
        ({"train": [entry("a", image_path=["/etc/passwd"])]}, "leaves the image folder"),
        ({"train": [entry("a"), entry("a")]}, r"id a stands at train\[0\] and at train\[1\]"),
        ({"train": [entry("a")], "test": [entry("a")]}, r"id a stands at train\[0\] and at test\[0\]"),
    ],
)
def test_a_fault_of_the_annotation_names_its_place(annotation: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, annotation)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_missing_films_are_counted_and_the_first_named(tmp_path: Path) -> None:
    write(tmp_path, {"train": [entry("a"), *(entry(f"x{i}") for i in range(9))]})
    with pytest.raises(UserError, match=r"9 of 10 films .* x0/0.png, .* x4/0.png, \.\.\."):
        read(tmp_path)


def test_a_missing_root_or_annotation_names_its_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*nowhere does not exist: "):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"annotation.json cannot be read .* data.annotation"):
        read(tmp_path)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.split=valid"):
        read(write(tmp_path, {"train": [entry("a")]})).studies("valid")


@pytest.mark.iu
def test_iu_xray_is_read_within_a_second(shared: Path, tmp_path: Path) -> None:
    sample = shared / "data/iu_xray_trainval.zip"
    if not sample.is_file():
        pytest.skip("needs $R2GEN_SHARED")
    with zipfile.ZipFile(sample) as archive:
        archive.extractall(tmp_path)
    start = time.perf_counter()
    data = read(tmp_path / "iu_xray")
    assert time.perf_counter() - start < 1
    assert [len(data.studies(split)) for split in ("train", "val", "test")] == [2067, 295, 0]
    assert all(len(study.views) == 2 for study in data.studies("train"))
    assert data.film(data.studies("val")[0].views[0]).size == (256, 256)
