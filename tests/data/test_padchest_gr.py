"""task=prepare of PadChest-GR: its languages and priors, with and without PadChest's table, and what is refused.

All texts are invented (tests/support/padchest_tree.py), since PadChest-GR is not available here.
"""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_files import change_csv, change_json
from padchest_tree import REPORTS, TABLE, write_padchest, write_padchest_gr
from prepared import Annotation, by_id, facts, refused
from prepared import prepare as prepare_layout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("padchest_gr")
    write_padchest_gr(root)
    return root


def prepare(root: Path, **options: Any) -> Annotation:
    return prepare_layout("padchest_gr", root, **options)


def test_padchest_gr_has_both_languages_and_the_priors_that_it_names(own_tree: Path) -> None:
    english = prepare(own_tree)
    spanish = prepare(own_tree, language="es")
    id = english["train"][0]["id"]
    assert by_id(english)[id]["report"].startswith("The heart ")
    assert by_id(spanish)[id]["report"].startswith("Hallazgo inventado: the heart ")
    assert ". Hallazgo" in by_id(spanish)[id]["report"], "a sentence without its full stop gets one"
    priors = [entry["prior"] for entry in by_id(english).values() if "prior" in entry]
    written_out = [prior for prior in priors if "image_path" in prior]
    assert written_out
    assert all(prior["image_path"][0].startswith("PadChest_GR_progression_prior_studies/") for prior in written_out)
    assert all("days" not in prior for prior in written_out), "their dates are in PadChest's table only"
    assert all(prior["days"] > 0 for prior in priors if "image_path" not in prior)
    shutil.rmtree(own_tree / "PadChest_GR_progression_prior_studies")
    without = prepare(own_tree)
    assert sum("prior" in entry for entry in by_id(without).values()) == len(priors) - len(written_out)
    assert facts(own_tree)["counts"]["priors_without_image"] == len(written_out)


def test_padchests_table_adds_projections_and_dates_to_padchest_gr(own_tree: Path, tmp_path: Path) -> None:
    write_padchest(tmp_path)
    rows = gzip.decompress((tmp_path / TABLE).read_bytes()).decode()
    renamed = rows.replace("_00-", "_x.png\0").splitlines()
    lines = [line.partition("\0")[0] + "," + line.partition(".png,")[2] if "\0" in line else "" for line in renamed]
    (own_tree / TABLE).write_bytes(gzip.compress("\n".join([rows.splitlines()[0], *filter(None, lines)]).encode()))
    splits = prepare(own_tree)
    written_out = [entry["prior"] for entry in splits["train"] if "image_path" in entry.get("prior", {})]
    assert written_out
    assert all(prior["days"] == 31 and prior["views"][0] for prior in written_out)
    assert {view for entry in splits["train"] for view in entry["views"]} == {"PA", "AP"}


WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: (root / REPORTS).unlink(), "needs one grounded_reports_*.json there: there is none"),
    (lambda root: (root / "master_table.csv").unlink(), "needs one master_table.csv there"),
    (lambda root: (root / REPORTS).write_text("{}"), "contains a dict, not a list of studies"),
    (lambda root: change_json(root / REPORTS, lambda all: all[0].pop("ImageID")), "study 1 has no StudyID"),
    (lambda root: change_json(root / REPORTS, lambda all: all[0].update(StudyID="7")), "is not in master"),
    (lambda root: change_json(root / REPORTS, lambda all: all[0].update(findings=3)), "findings 3 is not"),
    (
        lambda root: change_csv(root / "master_table.csv", lambda rows: rows[2].__setitem__(13, "test")),
        "has another split before",
    ),
]


@pytest.mark.parametrize(("break_it", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_variant_is_refused_in_one_line(break_it: Callable[[Path], Any], words: str, own_tree: Path) -> None:
    break_it(own_tree)
    message = refused("padchest_gr", own_tree)
    assert "\n" not in message
    assert words in message
