"""Data sets in R2Gen's format: studies are read in order, and every fault is reported before training starts."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from smallest_run import run

from r2gen.data.annotation import AnnotatedReports
from r2gen.errors import UserError


def entry(study: str, **changes: Any) -> dict[str, Any]:
    return {"id": study, "report": f"Report of {study}.", "image_path": [f"{study}/0.png"]} | changes


def write(root: Path, annotation: Any, *, images: tuple[str, ...] = ("a/0.png", "a/1.png", "b/0.png")) -> Path:
    for image in images:
        (root / "images" / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 7).save(root / "images" / image)
    root.mkdir(exist_ok=True)
    (root / "annotation.json").write_text(annotation if isinstance(annotation, str) else json.dumps(annotation))
    return root


def read(root: Path) -> AnnotatedReports:
    return AnnotatedReports(root=str(root), cleaner="iu_xray")


def test_studies_keep_their_order_views_and_complete_cleaned_reports(tmp_path: Path) -> None:
    long = " ".join(["opacity"] * 500)
    write(tmp_path, {"train": [entry("b", report=long), entry("a", image_path=["a/1.png", "a/0.png"])], "val": []})
    data = read(tmp_path)
    assert [study.id for study in data.studies("train")] == ["b", "a"]
    assert data.studies("train")[0].report == f"{long} ."
    assert data.studies("train")[1].views == ("a/1.png", "a/0.png")
    assert not data.studies("val")
    assert not data.studies("test")
    image = data.image("a/1.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("L", (4, 3), 7)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("{", "is not JSON"),
        ('{"train": [\n {"id": "a",}]}', r"line 2, column 13"),
        ("[" * 100_000, "nested too deeply"),
        ('{"train": [{"id": "a", "id": "b"}]}', r"\(id 'b'\) has \"id\" twice"),
        ([], "not an object"),
        ({"train": [], "valid": []}, 'has a split "valid"'),
        ({"train": {}}, '"train" is not a list'),
        ({"train": []}, "contains no study"),
        ({"train": ["a"]}, r"train\[0\] is not an object"),
        ({"val": [entry("a"), {"id": "b", "report": "x"}]}, r'val\[1\] \(id b\): has no "image_path"'),
        ({"train": [entry("a", id=7)]}, r"train\[0\] .* 7 is not a string"),
        ({"train": [entry("a", report=float("nan"))]}, r"train\[0\] \(id a\): report nan is not a string"),
        ({"train": [entry("a", report="half \ud800 a pair")]}, "surrogate"),
        ({"train": [entry("a", context=3)]}, "context 3 is not a string"),
        ({"train": [entry("a", image_path=["a\0b"])]}, "names no image"),
        (
            {"train": [entry("a", study_id=5)], "val": [entry("b", study_id=5)]},
            r"study 5 is that of train\[0\] and of val\[0\]",
        ),
        (
            {"train": [entry("a", subject_id=5)], "val": [entry("b", subject_id="5")]},
            r"patient 5 is that of train\[0\] and of val\[0\]",
        ),
        ({"train": [entry("a", subject_id=[5])]}, "neither a number nor a string"),
        ({"train": [entry("a", report=None)]}, "report None is not a string"),
        ({"train": [entry("a", report="")]}, r"train\[0\] \(id a\): the report is empty"),
        ({"train": [entry("a", report="?!")]}, "the report is empty"),
        ({"train": [entry("a")], "test": [entry("b", report="")]}, "none of the 1 studies of test has a report"),
        ({"train": [entry("a")], "val": [{"id": "b", "image_path": ["b/0.png"]}]}, "write reports of its images by a"),
        ({"train": [entry("a", image_path=["C:\\images\\0.png"])]}, "leaves the image folder"),
        ({"train": [entry("a", image_path=[])]}, "names no image"),
        ({"train": [entry("a", image_path="a/0.png")]}, "must be a list"),
        ({"train": [entry("a", image_path=["../a/0.png"])]}, "leaves the image folder"),
        ({"train": [entry("a", image_path=["/etc/passwd"])]}, "leaves the image folder"),
        ({"train": [entry("a"), entry("a")]}, r"id a is that of train\[0\] and of train\[1\]"),
        ({"train": [entry("a")], "test": [entry("a")]}, r"id a is that of train\[0\] and of test\[0\]"),
    ],
)
def test_a_fault_in_the_annotation_is_reported_with_its_position(annotation: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, annotation)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_several_faults_are_counted_and_the_first_five_are_shown(tmp_path: Path) -> None:
    write(tmp_path, {"train": [entry(f"x{i}", report="") for i in range(9)]})
    with pytest.raises(UserError, match=r"9 faults\n  train\[0\] \(id x0\): .*") as refused:
        read(tmp_path)
    assert str(refused.value).count("\n") == 6
    assert str(refused.value).endswith("and 4 more")


def test_invalid_utf_8_is_reported_by_line_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"train": [entry("a")]})
    file = tmp_path / "annotation.json"
    whole = file.read_bytes()
    file.write_bytes(b"\n\n" + whole.replace(b"Report", b"R\xe9port"))
    with pytest.raises(UserError, match=r"line 3, byte \d+ of the file: 0xe9 is not UTF-8"):
        read(tmp_path)
    file.write_bytes(whole.decode().encode("utf-16"))
    with pytest.raises(UserError, match="looks like UTF-16"):
        read(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + whole)
    assert len(read(tmp_path).studies("train")) == 1


def test_the_context_of_an_entry_becomes_that_of_the_study(tmp_path: Path) -> None:
    write(tmp_path, {"train": [entry("a", context="Cough.", subject_id=7), entry("b", subject_id=7)]})
    assert [study.indication for study in read(tmp_path).studies("train")] == ["Cough.", None]


STRANGE = [None, True, -1, 1.5, float("nan"), "", "\0", "\ud800", [], [[]], {}, {"id": {}}, [None], "x" * 5000]


def any_of(*good: Any) -> st.SearchStrategy[Any]:
    """Mostly values that fit, sometimes another value that JSON allows."""
    return st.sampled_from(good) | st.sampled_from(good) | st.sampled_from(STRANGE)


ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "id": any_of("a", "b", "c", "\ud800"),
        "report": any_of("Clear lungs.", "  ", "?"),
        "image_path": any_of(["a/0.png"], ["a/1.png", "b/0.png"], ["../x.png"], ["a"], ["missing.png"], [3]),
        "subject_id": any_of(1, "2", None),
        "study_id": any_of(1, 2, None),
        "context": any_of("Cough.", ""),
        "indication": any_of("Cough.", ""),
        "views": any_of(["PA"], ["LL", "?"]),
        "age": any_of(40, "040Y"),
        "sex": any_of("F", "male"),
        "prior": any_of(
            {"id": "a", "days": 3}, {"id": "x", "image_path": ["a/1.png"], "report": "Clear."}, {"id": "b", "views": 3}
        ),
    },
)
FILES = st.dictionaries(any_of("train", "val", "test").map(str), st.lists(ENTRIES | any_of(None), max_size=4))


EXAMPLES = int(os.environ.get("R2GEN_EXAMPLES", "300"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(annotation=FILES, cut=st.none() | st.integers(0, 200), wrong_byte=st.none() | st.integers(0, 255))
def test_any_annotation_is_read_or_refused_with_a_message(
    annotation: Any, cut: int | None, wrong_byte: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "property"
    if not root.is_dir():
        write(root, {})
    raw = json.dumps(annotation).encode()[:cut]
    if wrong_byte is not None:
        raw = raw[:20] + bytes([wrong_byte]) + raw[20:]
    (root / "annotation.json").write_bytes(raw)
    refused, data = None, None
    try:
        data = read(root)
        data.check()
    except UserError as error:
        refused = str(error)
    if refused is not None:
        assert "annotation.json" in refused
        assert refused.count("\n") <= 8
    elif data is not None:
        studies = [study for split in ("train", "val", "test") for study in data.studies(split)]
        assert studies
        assert all(study.report.isascii() or study.report.encode() for study in studies)
        assert all(data.image(view).mode == "L" for study in studies for view in study.views)


def test_a_missing_root_or_annotation_is_reported_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*nowhere does not exist\. "):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"annotation.json cannot be read .* Set data.annotation"):
        read(tmp_path)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.split=valid"):
        read(write(tmp_path, {"train": [entry("a")]})).studies("valid")


@pytest.mark.iu
def test_iu_xray_is_read_and_its_images_are_checked_without_decoding_them(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """benchmarks/speed.py shows the seconds."""
    sample = shared / "data/iu_xray_trainval.zip"
    with zipfile.ZipFile(sample) as archive:
        archive.extractall(tmp_path)
    decoded: list[Path] = []
    monkeypatch.setattr("r2gen.data.image_check.decode_image", lambda path, **_: decoded.append(path))
    data = read(tmp_path / "iu_xray")
    data.check()
    assert decoded == []
    assert [len(data.studies(split)) for split in ("train", "val", "test")] == [2067, 295, 0]
    assert all(len(study.views) == 2 for study in data.studies("train"))
    assert data.image(data.studies("val")[0].views[0]).size == (256, 256)


def test_a_broken_data_set_ends_the_command_before_a_folder_is_created(tmp_path: Path) -> None:
    write(tmp_path / "data", {"train": [entry("a"), entry("b"), entry("x")]})
    (tmp_path / "data/images/b/0.png").write_bytes(b"not an image")
    done = run("data=iu_xray", f"data.root={tmp_path / 'data'}", "run_dir=made", cwd=tmp_path, smallest=False)
    assert done.returncode == 2
    assert "train[1] (id b): image b/0.png cannot be read" in done.stderr
    assert "train[2] (id x): image x/0.png does not exist" in done.stderr
    assert not (tmp_path / "made").exists()


def test_a_large_annotation_is_reported_when_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """benchmarks/large_annotation.py shows seconds and memory."""
    monkeypatch.setattr("r2gen.data.annotation.MANY_ENTRIES", 2)
    write(tmp_path, {"train": [entry("a"), entry("b")]})
    read(tmp_path).check()
    assert "2 entries read and checked in 0 s" in capsys.readouterr().out


def test_a_backslash_of_windows_is_read_as_a_slash(tmp_path: Path) -> None:
    write(tmp_path, {"train": [entry("a", image_path=["a\\0.png"])]})
    data = read(tmp_path)
    data.check()
    assert data.studies("train")[0].views == ("a/0.png",)


@pytest.mark.parametrize("name", ["reports.csv", "reports.xlsx", "all.jsonl"])
def test_a_table_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("image_path,report,split\n")
    message = rf"{name}.*python run.py task=prepare data=csv prepare.table="
    with pytest.raises(UserError, match=message):
        AnnotatedReports.digest({"root": str(tmp_path)})
    with pytest.raises(UserError, match=message):
        AnnotatedReports(root=str(tmp_path), cleaner="none", annotation=name)


def test_a_link_that_leaves_the_image_folder_is_not_read_even_where_no_check_was_made(tmp_path: Path) -> None:
    """task=evaluate makes no check where run.json says that the training has made it."""
    root = write(tmp_path, {"train": [entry("a")]})
    (tmp_path / "private.png").write_bytes((root / "images/a/0.png").read_bytes())
    (root / "images/a/0.png").unlink()
    (root / "images/a/0.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(UserError, match=r"a/0\.png is a link that leaves the image folder \(to .*private\.png\)"):
        read(root).image("a/0.png")
    (root / "images/a/1.png").unlink()
    (root / "images/a/1.png").symlink_to("1.png")
    with pytest.raises(UserError, match=r"a/1\.png cannot be read"):
        read(root).image("a/1.png")
