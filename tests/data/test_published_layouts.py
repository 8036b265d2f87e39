"""task=prepare of published layouts: what all of published_studies.py promise, and the options that each reads.

All texts are invented (tests/support/rexgradient_tree.py, padchest_tree.py): none of the data sets is available here.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from padchest_tree import write_padchest, write_padchest_gr
from prepared import by_id, facts, prepare
from rexgradient_tree import write_tree
from round_trip import round_trip
from run_in_process import run_in_process

from r2gen.config.prepare_options import LAYOUTS, PrepareConfig
from r2gen.data import layouts
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.reports import SPLITS
from r2gen.errors import UserError

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


def test_the_names_of_layouts_and_of_their_options_are_those_of_the_configuration() -> None:
    assert tuple(layouts.LAYOUTS) == LAYOUTS
    options = set(PrepareConfig.__dataclass_fields__)
    assert set(layouts.UNSET) == options - {"layout", "columns"}
    assert all(set(layout.reads) <= options for layout in layouts.LAYOUTS.values())


@pytest.mark.parametrize("name", WRITE)
def test_a_layout_becomes_an_annotation_that_training_reads(name: str, published: Path) -> None:
    root = published / name
    status, output = run_in_process("task=prepare", f"data={name}", f"data.root={root}", cwd=root)
    assert status == 0, output
    again = (root / "annotation.json").read_bytes()
    counts = facts(root)["counts"]
    data = AnnotatedReports(root=str(root), cleaner="none", images=IMAGES[name])
    data.check()
    assert {split: len(data.studies(split)) for split in SPLITS} == counts["entries"]
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
    prepare(name, root)
    assert (root / "annotation.json").read_bytes() == again


@pytest.mark.parametrize("name", WRITE)
def test_a_missing_or_damaged_image_is_refused_or_left_out_and_counted(
    name: str, published: Path, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns("annotation*")
    root = shutil.copytree(published / name, tmp_path / name, ignore=ignored)
    entry = next(entry for entry in prepare(name, root)["train"] if "prior" not in entry)
    for path in entry["image_path"]:
        (root / IMAGES[name] / path).unlink()
    with pytest.raises(UserError, match=r"images are missing below(?s:.)*prepare\.partial=true leaves out"):
        prepare(name, root)
    other = next(iter(by_id(prepare(name, root, partial=True)).values()))
    for path in other["image_path"]:  # an interrupted download
        (root / IMAGES[name] / path).write_bytes((root / IMAGES[name] / path).read_bytes()[:99])
    splits = prepare(name, root, partial=True)
    assert not {entry["id"], other["id"]} & by_id(splits).keys()
    assert facts(root)["counts"]["dropped"]["images not on disk, or damaged"] == 2
    AnnotatedReports(root=str(root), cleaner="none", images=IMAGES[name]).check()


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
