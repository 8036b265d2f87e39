"""task=prepare of PadChest: its random split and its images, and what is refused.

All texts are invented (tests/support/padchest_tree.py), since PadChest is not available here.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_files import change_csv
from padchest_tree import TABLE, write_padchest
from prepared import Annotation, by_id, facts, refused
from prepared import prepare as prepare_layout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("padchest")
    write_padchest(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("padchest", root, **options)


def test_padchest_is_divided_by_patient_and_leaves_out_excluded_images(tree: Path) -> None:
    splits = prepare(tree)
    homes = {split: {entry["subject_id"] for entry in entries} for split, entries in splits.items()}
    assert sum(map(len, homes.values())) == len(set.union(*homes.values())), "a patient is in one split"
    entries = by_id(splits)
    assert any(len(entry["image_path"]) == 1 for entry in entries.values()), "its lateral image is EXCLUDE"
    assert {view for entry in entries.values() for view in entry["views"]} == {"PA", "AP", "LATERAL", "OTHER"}
    other = prepare(tree, seed=3, split=[50, 25, 25])
    assert by_id(other).keys() == entries.keys()
    assert len(other["train"]) < len(splits["train"])
    assert facts(tree)["policy"]["seed"] == 3


def test_images_are_found_in_any_folder(own_tree: Path) -> None:
    folders = [folder for folder in own_tree.iterdir() if folder.is_dir()]
    (own_tree / "all").mkdir()
    for file in [file for folder in folders for file in folder.iterdir()]:
        file.rename(own_tree / "all" / file.name)
    splits = prepare(own_tree)
    assert all(path.startswith("all/") for entry in splits["train"] for path in entry["image_path"])


WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: (root / TABLE).unlink(), "there is none. Set data.root to the folder of PadChest"),
    (lambda root: shutil.copy(root / TABLE, root / TABLE[:-3]), "needs one PADCHEST_chest_x_ray_images"),
    (lambda root: change_csv(root / TABLE, lambda rows: rows[0].__setitem__(4, "Study")), "no column StudyID"),
    (lambda root: change_csv(root / TABLE, lambda rows: rows.append(rows[1])), "is also in row 2"),
    (lambda root: change_csv(root / TABLE, lambda rows: rows[1].__setitem__(4, "")), "row 2: StudyID, ImageID"),
    (lambda root: (root / TABLE).write_bytes((root / TABLE).read_bytes()[:-90]), "cannot be read"),
]


@pytest.mark.parametrize(("break_it", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_variant_is_refused_in_one_line(break_it: Callable[[Path], Any], words: str, own_tree: Path) -> None:
    break_it(own_tree)
    message = refused("padchest", own_tree)
    assert "\n" not in message
    assert words in message
