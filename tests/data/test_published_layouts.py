"""task=prepare of ReXGradient-160K, PadChest and PadChest-GR: annotation, counts and provenance, and what is refused.

All texts are invented (tests/support/rexgradient_tree.py, padchest_tree.py): none of the data sets is available here.
"""

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from padchest_tree import REPORTS, TABLE, write_padchest, write_padchest_gr
from rexgradient_tree import write_tree
from round_trip import round_trip
from run_in_process import run_in_process

from r2gen.config.prepare_options import LAYOUTS, PrepareConfig
from r2gen.data import layouts
from r2gen.data.annotation import AnnotatedReports

WRITE: dict[str, Callable[[Path], None]] = {
    "rexgradient": write_tree,
    "padchest": write_padchest,
    "padchest_gr": write_padchest_gr,
}
IMAGES = {"rexgradient": "deid_png", "padchest": ".", "padchest_gr": "."}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tree of each data set."""
    folder = tmp_path_factory.mktemp("published")
    for name, write in WRITE.items():
        (folder / name).mkdir()
        write(folder / name)
    return folder


@pytest.fixture
def own(published: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies the tree of a data set for one test."""
    ignored = shutil.ignore_patterns("annotation*")
    return lambda name: Path(shutil.copytree(published / name, tmp_path / name, ignore=ignored))


def prepare(name: str, root: Path, *words: str) -> tuple[int, str]:
    return run_in_process("task=prepare", f"data={name}", f"data.root={root}", *words, cwd=root)


def prepared(name: str, root: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    status, output = prepare(name, root, "fresh=true", *words)
    assert status == 0, output
    annotation: dict[str, list[dict[str, Any]]] = json.loads((root / "annotation.json").read_text())
    return annotation


def facts(root: Path) -> dict[str, Any]:
    provenance: dict[str, Any] = json.loads((root / "annotation.provenance.json").read_text())
    return provenance


def in_annotation(splits: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entries in splits.values() for entry in entries}


def test_the_names_of_layouts_and_of_their_options_are_those_of_the_configuration() -> None:
    assert tuple(layouts.LAYOUTS) == LAYOUTS
    options = set(PrepareConfig.__dataclass_fields__)
    assert set(layouts.UNSET) == options - {"layout", "columns"}
    assert all(set(layout.reads) <= options for layout in layouts.LAYOUTS.values())


@pytest.mark.parametrize("name", WRITE)
def test_a_layout_becomes_an_annotation_that_training_reads(name: str, published: Path) -> None:
    root = published / name
    splits = prepared(name, root)
    again = (root / "annotation.json").read_bytes()
    counts = facts(root)["counts"]
    data = AnnotatedReports(root=str(root), cleaner="none", images=IMAGES[name])
    data.check()
    assert {split: len(data.studies(split)) for split in splits} == counts["entries"]
    assert all(counts["entries"].values())
    assert sum(counts["studies_read"].values()) == counts["studies_kept"] + sum(counts["dropped"].values())
    assert set(counts["dropped"]) == {"no findings" if name == "rexgradient" else "no report"}
    assert counts["priors"]["entries_with_prior"] > 0
    assert data.section == ("whole" if name == "padchest" else "findings")
    named = data.splits()
    assert named["subject_id"] == named["study_id"] == named["entries"]
    image = data.image(data.studies("train")[0].views[0])
    assert (image.size, image.mode) == ((32, 32), "L")
    assert image.getextrema()[1] > 128, "16 bits are not read as 12"
    prepared(name, root)
    assert (root / "annotation.json").read_bytes() == again


def test_rexgradient_keeps_its_sections_views_and_patients(published: Path) -> None:
    splits = prepared("rexgradient", published / "rexgradient")
    entry = in_annotation(splits)["pGRD00000001_aGRA00000011_s1.2.826.0.1.1.1"]
    assert entry["indication"] == "Invented cough, question of nothing."
    assert (entry["comparison"], entry["technique"]) == ("Invented radiograph of ___.", "XR CHEST INVENTED")
    assert entry["prior"] == {"id": "pGRD00000001_aGRA00000010_s1.2.826.0.1.1.0", "days": 31}
    assert (entry["age"], entry["sex"], entry["subject_id"]) == (0.58, "M", "GRD00000001")
    assert facts(published / "rexgradient")["counts"]["values_not_read"] == {"age": 19}
    after_left_out = in_annotation(splits)["pGRD00000020_aGRA00000201_s1.2.826.0.1.20.1"]["prior"]
    assert after_left_out["id"].endswith(".20.0"), "a study without findings is still a prior"
    assert after_left_out["report"] == "No invented acute process."
    assert after_left_out["image_path"][0].startswith("GRD00000020/")
    by_number = {views: entry["views"] for entry in splits["train"] if (views := len(entry["image_path"]))}
    assert by_number[2][0] in ("PA", "AP")
    frontal = prepared("rexgradient", published / "rexgradient", "prepare.views=frontal", "prepare.sections=impression")
    assert {view for entry in frontal["train"] for view in entry["views"]} == {"PA", "AP"}
    assert {entry["report"] for entry in frontal["train"]} == {"No invented acute process."}
    assert facts(published / "rexgradient")["policy"] == {
        "views": "frontal",
        "partial": False,
        "sections": "impression",
    }


def test_padchest_is_divided_by_patient_and_leaves_out_excluded_images(published: Path) -> None:
    splits = prepared("padchest", published / "padchest")
    homes = {split: {entry["subject_id"] for entry in entries} for split, entries in splits.items()}
    assert sum(map(len, homes.values())) == len(set.union(*homes.values())), "a patient is in one split"
    entries = in_annotation(splits)
    assert any(len(entry["image_path"]) == 1 for entry in entries.values()), "its lateral image is EXCLUDE"
    assert {view for entry in entries.values() for view in entry["views"]} == {"PA", "AP", "LATERAL", "OTHER"}
    other = prepared("padchest", published / "padchest", "prepare.seed=3", "prepare.split=[50,25,25]")
    assert in_annotation(other).keys() == entries.keys()
    assert len(other["train"]) < len(splits["train"])
    assert facts(published / "padchest")["policy"]["seed"] == 3


def test_images_are_found_in_any_folder(own: Callable[[str], Path]) -> None:
    root = own("padchest")
    folders = [folder for folder in root.iterdir() if folder.is_dir()]
    (root / "all").mkdir()
    for file in [file for folder in folders for file in folder.iterdir()]:
        file.rename(root / "all" / file.name)
    splits = prepared("padchest", root)
    assert all(path.startswith("all/") for entry in splits["train"] for path in entry["image_path"])


def test_padchest_gr_has_both_languages_and_the_priors_that_it_names(own: Callable[[str], Path]) -> None:
    root = own("padchest_gr")
    english = prepared("padchest_gr", root)
    spanish = prepared("padchest_gr", root, "prepare.language=es")
    id = english["train"][0]["id"]
    assert in_annotation(english)[id]["report"].startswith("The heart ")
    assert in_annotation(spanish)[id]["report"].startswith("Hallazgo inventado: the heart ")
    assert ". Hallazgo" in in_annotation(spanish)[id]["report"], "a sentence without its full stop gets one"
    priors = [entry["prior"] for entry in in_annotation(english).values() if "prior" in entry]
    written_out = [prior for prior in priors if "image_path" in prior]
    assert written_out
    assert all(prior["image_path"][0].startswith("PadChest_GR_progression_prior_studies/") for prior in written_out)
    assert all("days" not in prior for prior in written_out), "their dates are in PadChest's table only"
    assert all(prior["days"] > 0 for prior in priors if "image_path" not in prior)
    shutil.rmtree(root / "PadChest_GR_progression_prior_studies")
    without = prepared("padchest_gr", root)
    assert sum("prior" in entry for entry in in_annotation(without).values()) == len(priors) - len(written_out)
    assert facts(root)["counts"]["priors_without_image"] == len(written_out)


def test_padchests_table_adds_projections_and_dates_to_padchest_gr(own: Callable[[str], Path], published: Path) -> None:
    root = own("padchest_gr")
    rows = gzip.decompress((published / "padchest" / TABLE).read_bytes()).decode()
    renamed = rows.replace("_00-", "_x.png\0").splitlines()
    lines = [line.partition("\0")[0] + "," + line.partition(".png,")[2] if "\0" in line else "" for line in renamed]
    (root / TABLE).write_bytes(gzip.compress("\n".join([rows.splitlines()[0], *filter(None, lines)]).encode()))
    splits = prepared("padchest_gr", root)
    written_out = [entry["prior"] for entry in splits["train"] if "image_path" in entry.get("prior", {})]
    assert written_out
    assert all(prior["days"] == 31 and prior["views"][0] for prior in written_out)
    assert {view for entry in splits["train"] for view in entry["views"]} == {"PA", "AP"}


@pytest.mark.parametrize("name", WRITE)
def test_a_missing_or_damaged_image_is_refused_or_left_out_and_counted(name: str, own: Callable[[str], Path]) -> None:
    root = own(name)
    entry = next(entry for entry in prepared(name, root)["train"] if "prior" not in entry)
    for path in entry["image_path"]:
        (root / IMAGES[name] / path).unlink()
    status, output = prepare(name, root, "fresh=true")
    assert status == 2
    assert "images are missing below" in output
    assert "prepare.partial=true leaves out" in output
    other = next(other for other in in_annotation(prepared(name, root, "prepare.partial=true")).values())
    for path in other["image_path"]:  # an interrupted download
        (root / IMAGES[name] / path).write_bytes((root / IMAGES[name] / path).read_bytes()[:99])
    splits = prepared(name, root, "prepare.partial=true")
    assert not {entry["id"], other["id"]} & in_annotation(splits).keys()
    assert facts(root)["counts"]["dropped"]["images not on disk, or damaged"] == 2
    AnnotatedReports(root=str(root), cleaner="none", images=IMAGES[name]).check()


def change_json(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_csv(file: Path, change: Callable[[list[list[str]]], Any]) -> None:
    raw = file.read_bytes()
    text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
    rows = list(csv.reader(text.splitlines()))
    change(rows)
    with gzip.open(file, "wt", newline="") if file.suffix == ".gz" else file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def rexgradient(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda root: change_json(root / "metadata/train_metadata_view_position.json", change)


def first(content: Any) -> Any:
    return next(iter(content.values())) if isinstance(content, dict) else content[0]


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


WRONG = [
    (
        "rexgradient",
        rexgradient(lambda train: first(train).update(Comparison="a\ud800")),
        "a text contains half of a surrogate pair",
    ),
    ("rexgradient", lambda root: shutil.rmtree(root / "metadata"), "there is no metadata/train_metadata_view_position"),
    ("rexgradient", text_of_train(lambda text: text[:-200]), "json cannot be read (character"),
    ("rexgradient", text_of_train(lambda text: f"[{text}]"), "it does not begin with {"),
    ("rexgradient", text_of_train(lambda text: text + "{}"), "the object does not end the file"),
    (
        "rexgradient",
        text_of_train(lambda text: "version https://git-lfs.github.com/spec/v1\nsize 9\n"),
        "git-LFS pointer",
    ),
    (
        "rexgradient",
        rexgradient(lambda train: train.update(dict.fromkeys(train, 3))),
        "is 3 and not an object",
    ),
    ("rexgradient", rexgradient(lambda train: first(train).pop("ImagePath")), "ImagePath None is not a list of paths"),
    ("rexgradient", rexgradient(lambda train: first(train)["ImagePath"].append("x.png")), "is not a list of 2 views"),
    (
        "rexgradient",
        rexgradient(lambda train: first(train).update(ImagePath=["../../x.png"], ImageViewPosition=["PA"])),
        "ImagePath ../../x.png leaves deid_png/",
    ),
    ("rexgradient", rexgradient(lambda train: first(train).pop("PatientID")), "the study has no patient"),
    ("rexgradient", text_of_train(with_the_first_study_twice), "is also in train_metadata_view_position.json, study 1"),
    ("rexgradient", patient_of_two_splits, "a patient belongs to one split"),
    ("padchest", lambda root: (root / TABLE).unlink(), "there is none. Set data.root to the folder of PadChest"),
    ("padchest", lambda root: shutil.copy(root / TABLE, root / TABLE[:-3]), "needs one PADCHEST_chest_x_ray_images"),
    (
        "padchest",
        lambda root: change_csv(root / TABLE, lambda rows: rows[0].__setitem__(4, "Study")),
        "no column StudyID",
    ),
    ("padchest", lambda root: change_csv(root / TABLE, lambda rows: rows.append(rows[1])), "is also in row 2"),
    (
        "padchest",
        lambda root: change_csv(root / TABLE, lambda rows: rows[1].__setitem__(4, "")),
        "row 2: StudyID, ImageID",
    ),
    ("padchest", lambda root: (root / TABLE).write_bytes((root / TABLE).read_bytes()[:-90]), "cannot be read"),
    ("padchest_gr", lambda root: (root / REPORTS).unlink(), "needs one grounded_reports_*.json there: there is none"),
    ("padchest_gr", lambda root: (root / "master_table.csv").unlink(), "needs one master_table.csv there"),
    ("padchest_gr", lambda root: (root / REPORTS).write_text("{}"), "contains a dict, not a list of studies"),
    (
        "padchest_gr",
        lambda root: change_json(root / REPORTS, lambda all: all[0].pop("ImageID")),
        "study 1 has no StudyID",
    ),
    (
        "padchest_gr",
        lambda root: change_json(root / REPORTS, lambda all: all[0].update(StudyID="7")),
        "is not in master",
    ),
    (
        "padchest_gr",
        lambda root: change_json(root / REPORTS, lambda all: all[0].update(findings=3)),
        "findings 3 is not",
    ),
    (
        "padchest_gr",
        lambda root: change_csv(root / "master_table.csv", lambda rows: rows[2].__setitem__(13, "test")),
        "has another split before",
    ),
]


@pytest.mark.parametrize(("name", "break_it", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_a_wrong_variant_is_refused_in_one_line(
    name: str, break_it: Callable[[Path], Any], words: str, own: Callable[[str], Path]
) -> None:
    root = own(name)
    break_it(root)
    status, output = prepare(name, root)
    assert (status, output.count("\n")) == (2, 1), output
    assert output.startswith("error: ")
    assert words in output
    assert not (root / "annotation.json").exists()


def test_an_image_whose_name_no_file_can_have_is_missing(own: Callable[[str], Path]) -> None:
    root = own("rexgradient")
    rexgradient(lambda train: first(train).update(ImagePath=["x" * 300], ImageViewPosition=["PA"]))(root)
    status, output = prepare("rexgradient", root)
    assert status == 2
    assert output.startswith("error: images are missing below")
    (root / "table.csv").write_text(f"id,image,report\n1,{'x' * 300}.png,clear lungs\n")
    status, output = run_in_process("task=prepare", "data=csv", "prepare.table=table.csv", cwd=root)
    assert (status, f"{'x' * 99}" in output) == (2, True), output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=padchest", "prepare.sections=impression"], "prepare.sections is for data=mimic_cxr, "),
        (["data=rexgradient", "prepare.language=es"], "prepare.language is for data=padchest_gr: leave it out"),
        (["data=padchest", "prepare.split=[1,2]"], "give the shares of train, val, test"),
        (["data=padchest_gr", "prepare.language=fr"], "choose one of en, es"),
        (["data=own", "prepare.layout=chest"], "choose one of mimic_cxr"),
    ],
)
def test_an_option_that_a_layout_does_not_read_is_refused(words: list[str], message: str, published: Path) -> None:
    status, output = run_in_process("task=prepare", *words, f"data.root={published / 'padchest'}", cwd=published)
    assert (status, output.count("\n")) == (2, 1), output
    assert message in output


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITE)
def test_the_commands_prepare_train_and_evaluate(name: str, published: Path, tmp_path: Path) -> None:
    annotation = tmp_path / "a.json"
    metrics = round_trip(f"data={name}", f"data.root={published / name}", f"data.annotation={annotation}", cwd=tmp_path)
    studies = json.loads((tmp_path / "a.provenance.json").read_text())["counts"]["entries"]["test"]
    assert metrics["splits"]["test"]["studies"] == studies
    assert metrics["recipe"]["section"] == ("whole" if name == "padchest" else "findings")
