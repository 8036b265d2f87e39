"""task=prepare: the original archives of IU X-Ray become an annotation.

The trees are invented (tests/support/open_i_tree.py). One test writes the real fields of the sample (meta.csv) as XML.
"""

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from open_i_tree import report_xml, write_tree
from prepared import Annotation, by_id, facts, refused
from prepared import prepare as prepare_layout
from round_trip import round_trip
from run_in_process import run_in_process

from r2gen.data.annotation import AnnotatedReports
from r2gen.data.open_i import read_report
from r2gen.runs.untrusted import read_xml

PNG = "data.images=NLMCXR_png"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("iu") / "iu"
    write_tree(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("iu_xray", root, images="NLMCXR_png", **options)


def test_a_report_becomes_an_entry_with_its_images_projections_indication_comparison_and_mesh(tree: Path) -> None:
    entries = by_id(prepare(tree))
    first, second = entries["CXR1"], entries["CXR2"]
    assert first["image_path"] == ["CXR1_1_IM-0001-1001.png", "CXR1_1_IM-0001-2001.png"]
    assert (first["views"], first["comparison"], first["mesh"]) == (["FRONTAL", "LATERAL"], "None.", ["normal"])
    assert first["indication"] == "XXXX-year-old with an invented cough & fever <1 days>, XXXX.", "XXXX stays"
    assert second["image_path"] == ["CXR2_IM-0002-1001.png", "CXR2_IM-0002-2001.png"], "frontal images come first"
    assert second["mesh"] == ["Invented/lung/left", "Nothing, Large/right"]
    assert "comparison" not in entries["CXR6"], "an empty section is left out"
    counts = facts(tree)["counts"]
    assert counts["dropped"] == {"no findings": 4, "no image": 4}
    assert sum(counts["entries"].values()) == 32
    data = AnnotatedReports(root=str(tree), cleaner="iu_xray", images="NLMCXR_png")
    data.check()
    study = data.studies("train")[0]
    assert (study.indication, study.comparison) == (first["indication"], "None.")
    assert study.positions == ("FRONTAL", "LATERAL")


def test_the_annotation_depends_on_files_and_policy_only(tree: Path) -> None:
    prepare(tree)
    before, digest = (tree / "annotation.json").read_bytes(), facts(tree)["sources_sha256"]
    prepare(tree)
    assert (tree / "annotation.json").read_bytes() == before
    assert facts(tree)["sources_sha256"] == digest
    assert set(digest) == {"reports", "indiana_projections.csv"}
    assert (tree / "annotation.json").stat().st_mode & 0o777 == 0o600
    frontal = by_id(prepare(tree, views="frontal", sections="impression"))
    assert all(entry["views"] == ["FRONTAL"] for entry in frontal.values())
    assert frontal["CXR3"]["report"] == "No invented disease, compared to XXXX."
    other = prepare(tree, seed=7, split=[50, 25, 25])
    assert all(len(entries) > 4 for entries in other.values())


def test_without_projections_the_images_have_the_order_of_the_xml(own_tree: Path) -> None:
    (own_tree / "indiana_projections.csv").unlink()
    second = by_id(prepare(own_tree))["CXR2"]
    assert second["image_path"] == ["CXR2_IM-0002-2001.png", "CXR2_IM-0002-1001.png"]
    assert "views" not in second


def test_the_split_and_the_ids_of_r2gens_annotation_are_taken(own_tree: Path) -> None:
    listed = {"train": ["CXR1_1_IM-0001", "CXR4_IM-0004"], "val": ["CXR2_IM-0002"], "test": ["CXR999_IM-0999"]}
    old = {split: [{"id": id, "report": "x", "image_path": ["0.png"]} for id in ids] for split, ids in listed.items()}
    (own_tree / "r2gen.json").write_text(json.dumps(old))
    new = prepare(own_tree, split_from=str(own_tree / "r2gen.json"))
    assert {split: [entry["id"] for entry in entries] for split, entries in new.items()} == {**listed, "test": []}
    counts = facts(own_tree)["counts"]
    assert counts["only_in_split_from"] == 1
    assert counts["dropped"]["not in prepare.split_from"] == 37


@pytest.mark.iu
def test_the_real_indications_comparisons_mesh_and_projections_come_back(shared: Path, tmp_path: Path) -> None:
    """Every sixth line of the sample's meta.csv, written as Open-i's XML, is what task=prepare reads from it."""
    with zipfile.ZipFile(shared / "data/iu_xray_trainval.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("iu_xray/meta.csv").decode(), newline="")))[::6]
        sample = json.loads(archive.read("iu_xray/annotation.json"))
        ids = {row["id"] for row in rows}
        sample = {split: [entry for entry in some if entry["id"] in ids] for split, some in sample.items()}
        (tmp_path / "sample.json").write_text(json.dumps(sample))
    real = by_id(sample)
    reports, images = tmp_path / "iu/ecgen-radiology", tmp_path / "iu/NLMCXR_png"
    reports.mkdir(parents=True)
    images.mkdir()
    table = [("uid", "filename", "projection")]
    for row in rows:
        names = [name if name.startswith("CXR") else f"CXR{name}" for name in row["nlm_names"].split(";")]
        texts = {name: row[name.lower()] for name in ("INDICATION", "COMPARISON", "IMPRESSION")}
        texts["FINDINGS"] = real[row["id"]]["report"]
        text = report_xml(int(row["uid"]), texts, names, row["mesh"].split(";"))
        (reports / f"{row['uid']}.xml").write_text(text)
        for name, projection in zip(names, row["projections"].split(";"), strict=True):
            (images / f"{name}.png").touch()
            table.append((row["uid"], name.removeprefix("CXR") + ".dcm.png", projection))
    with (tmp_path / "iu/indiana_projections.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    made = prepare(tmp_path / "iu", split_from=str(tmp_path / "sample.json"))
    assert {split: {entry["id"] for entry in entries} for split, entries in made.items()} == {
        split: {entry["id"] for entry in entries} for split, entries in sample.items()
    }
    entries = by_id(made)

    def line(text: str) -> str:
        return " ".join(text.split())

    for row in rows:
        entry = entries[row["id"]]
        assert entry.get("indication", "") == line(row["indication"])
        assert entry.get("comparison", "") == line(row["comparison"])
        assert entry["mesh"] == [line(term) for term in row["mesh"].split(";")]
        assert sorted(entry["views"]) == sorted(row["projections"].upper().split(";"))
        assert entry["report"] == line(real[row["id"]]["report"])
    assert sum("XXXX" in entry.get("indication", "") for entry in entries.values()) > 100


def broken(root: Path, kind: str) -> None:
    """Damage a tree."""
    reports, csv_file = root / "NLMCXR_reports/ecgen-radiology", root / "indiana_projections.csv"
    if kind == "no images":
        shutil.rmtree(root / "NLMCXR_png")
    elif kind == "no reports":
        shutil.rmtree(reports)
    elif kind == "an image":
        (root / "NLMCXR_png/CXR5_IM-0005-2001.png").unlink()
    elif kind == "column":
        csv_file.write_text(csv_file.read_text().replace("projection", "view"))
    elif kind == "word":
        csv_file.write_text(csv_file.read_text().replace("Lateral", "Sideways", 1))
    elif kind == "no projections":
        csv_file.unlink()
    elif kind == "twice":
        shutil.copy(reports / "1.xml", reports / "9999.xml")
    else:
        change = {"cut": lambda text: text[:-20], "uid": lambda text: text.replace("uId", "id"), "outside": outside}
        (reports / "5.xml").write_text(change[kind]((reports / "5.xml").read_text()))


def outside(text: str) -> str:
    return text.replace('parentImage id="CXR5', 'parentImage id="../../CXR5')


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no images", {}, "NLMCXR_png does not exist. Set data.images to the folder of the PNG files"),
    ("", {"images": "images"}, "images does not exist. Set data.images=NLMCXR_png, here and for the training"),
    ("no reports", {}, "there is no XML report in NLMCXR_reports/ecgen-radiology"),
    ("", {"reports": "tests"}, "prepare.reports=tests contains no .xml file"),
    ("an image", {}, "CXR5_IM-0005-2001.png (CXR5)"),
    ("column", {}, "indiana_projections.csv has no column projection: its columns are uid, filename, view"),
    ("word", {}, "row 3: projection Sideways is not Frontal or Lateral"),
    ("no projections", {"views": "frontal"}, "prepare.views=frontal: the XML names no projections"),
    ("twice", {}, "9999.xml: uId CXR1 is also that of 1.xml"),
    ("cut", {}, "5.xml: not XML: "),
    ("uid", {}, "5.xml: it has no <uId id> such as CXR1"),
    ("outside", {}, "5.xml: parentImage '../../CXR5_IM-0005-1001' is no name of an image"),
    ("", {"split_from": "nowhere.json"}, "nowhere.json cannot be read"),
    ("", {"split": [1, 2]}, "give the shares of train, val, test"),
    ("", {"entries": "film"}, "prepare.entries is for data=mimic_cxr: leave it out with data=iu_xray"),
]


@pytest.mark.parametrize(("kind", "options", "message"), WRONG)
def test_wrong_files_and_options_are_refused(kind: str, options: dict[str, Any], message: str, own_tree: Path) -> None:
    if kind:
        broken(own_tree, kind)
    assert message in refused("iu_xray", own_tree, **({"images": "NLMCXR_png"} | options))


def test_the_command_ends_with_one_line_and_status_2(own_tree: Path) -> None:
    (own_tree / "own.json").write_text('{"train": [{"id": "s1", "report": "x", "image_path": ["0.png"]}]}')
    words = ("task=prepare", "data=iu_xray", f"data.root={own_tree}", PNG, "prepare.split_from=own.json")
    status, output = run_in_process(*words, cwd=own_tree)
    assert status == 2
    assert output.strip() == (
        f"error: prepare.split_from={own_tree}/own.json: train[0]: id s1 is not like CXR2384_IM-0942."
    )


def test_a_missing_image_is_left_out_on_request(own_tree: Path) -> None:
    broken(own_tree, "an image")
    assert by_id(prepare(own_tree, partial=True))["CXR5"]["image_path"] == ["CXR5_IM-0005-1001.png"]
    assert facts(own_tree)["counts"]["files_missing"] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>', "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        ("<a>" * 100 + "</a>" * 100, "nested too deeply"),
        ("<a>&nothing;</a>", "not XML: undefined entity"),
        ("", "not XML: no element found"),
        ("<a>" + " " * 2**20 + "</a>", "MiB"),
    ],
)
def test_xml_cannot_define_entities_read_files_or_fill_the_memory(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_xml(tmp_path / "1.xml")


def test_a_section_with_markup_or_twice_is_read_as_one_text(tmp_path: Path) -> None:
    text = report_xml(3, {"FINDINGS": "One.", "INDICATION": "two"}, ["CXR3_IM-0003-1001"], ["a "])
    text = text.replace("One.", "<i>One</i>\n  line.").replace('Label="INDICATION"', 'Label="FINDINGS"')
    (tmp_path / "3.xml").write_text(text)
    report = read_report(tmp_path / "3.xml")
    assert (report.number, report.mesh) == ("3", ("a",))
    assert sorted(report.texts["findings"].split()) == ["One", "line.", "two"]


@pytest.mark.slow
def test_a_tree_is_prepared_trained_on_and_evaluated(tree: Path, tmp_path: Path) -> None:
    data = ("data=iu_xray", f"data.root={tree}", PNG, f"data.annotation={tmp_path / 'a.json'}")
    metrics = round_trip(*data, cwd=tmp_path, prepare=("prepare.split=[60,20,20]",))
    assert metrics["splits"]["test"]["studies"] > 2
