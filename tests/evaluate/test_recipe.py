"""A recipe describes the texts that were scored; it is shown with the signatures below every table."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from r2gen.data.annotation import AnnotatedReports
from r2gen.data.phantom import VERSION, Phantom
from r2gen.data.share import TrainShare
from r2gen.evaluate.recipe import recipe_of, signature_lines
from r2gen.evaluate.tables import table_of


def write(root: Path) -> Path:
    (root / "annotation.json").write_text('{"val": [{"id": "a", "report": "Clear lungs.", "image_path": ["a.png"]}]}')
    return root


def read(root: Path, **more: Any) -> AnnotatedReports:
    return AnnotatedReports(root=str(write(root)), cleaner="iu_xray", **more)


def test_a_recipe_has_the_section_and_the_cleaner_of_the_data_set(tmp_path: Path) -> None:
    assert recipe_of(read(tmp_path, section="findings"), "abc") == {
        "section": "findings",
        "cleaner": "iu_xray",
        "case": "lower",
        "truncation": "none",
        "data": "abc",
    }
    phantom = Phantom(train_studies=1, val_studies=0, test_studies=0, size_px=32, version=VERSION)
    recipe = recipe_of(TrainShare(phantom, 0.5), "abc")
    assert (recipe["section"], recipe["cleaner"], recipe["case"]) == ("whole", "none", "kept")


@pytest.mark.parametrize("same", [True, False], ids=["this annotation", "another annotation"])
def test_the_section_of_a_prepared_annotation_is_read_from_its_provenance(tmp_path: Path, same: bool) -> None:
    assert recipe_of(read(tmp_path), "abc")["section"] == "not stated"
    written = (tmp_path / "annotation.json").read_bytes() if same else b"another"
    facts = {"policy": {"sections": "impression"}, "annotation_sha256": hashlib.sha256(written).hexdigest()}
    (tmp_path / "annotation.provenance.json").write_text(json.dumps(facts))
    assert recipe_of(read(tmp_path), "abc")["section"] == ("impression" if same else "not stated")


def test_metrics_with_the_same_signature_share_a_line() -> None:
    lines = signature_lines(
        {"data": "abc"}, {"bleu": {"version": "1"}, "cider": {"version": "1"}, "meteor": {"version": "2"}}, width=80
    )
    assert lines.splitlines() == ["", "recipe: data abc", "bleu, cider: version 1", "meteor: version 2"]


def test_every_table_has_the_recipe_the_signatures_and_unavailable_metrics_below(tmp_path: Path) -> None:
    split = {"studies": 2, "systems": {"model": {"bleu_4": 0.5}}}
    cut = split | {"truncated": {"tokens": 60, "systems": split["systems"]}}
    file = tmp_path / "metrics.json"
    file.write_text(
        json.dumps(
            {
                "splits": {"val": cut, "test": split},
                "recipe": {"truncation": "none"},
                "signatures": {"bleu": {"version": "1"}},
                "unavailable": {"chexbert": "no weights"},
            }
        )
    )
    val, shortened, test = table_of(file).split("\n\n")
    for table in (val, test):
        assert table.endswith("chexbert: unavailable: no weights\nrecipe: truncation none\nbleu: version 1")
    assert shortened.endswith("recipe: truncation 60 tokens\nbleu: version 1")
