"""The recipe says which texts were scored, and stands with the signatures under every table."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from r2gen.evaluate.recipe import recipe_of, signature_lines
from r2gen.evaluate.tables import table_of
from r2gen.runs.provenance import data_hash

ANNOTATED = "r2gen.data.annotation.AnnotatedReports"


def annotated(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "annotation.json").write_text("{}")
    return {"_target_": ANNOTATED, "root": str(folder), "annotation": "annotation.json", "cleaner": "iu_xray", **more}


def test_the_section_is_what_the_data_says(tmp_path: Path) -> None:
    data = annotated(tmp_path, section="findings")
    assert recipe_of(data, "abc") == {
        "section": "findings",
        "cleaner": "iu_xray",
        "case": "lower",
        "truncation": "none",
        "data": "abc",
    }
    assert data_hash(data) == data_hash(annotated(tmp_path))  # it only says what the texts are anyway


@pytest.mark.parametrize(("written_for", "section"), [("{}", "impression"), ("another", "not stated")])
def test_or_what_preparing_it_wrote_unless_the_annotation_is_another(
    tmp_path: Path, written_for: str, section: str
) -> None:
    data = annotated(tmp_path, section=None)
    assert recipe_of(data, "abc")["section"] == "not stated"
    facts = {
        "policy": {"sections": "impression"},
        "annotation_sha256": hashlib.sha256(written_for.encode()).hexdigest(),
    }
    (tmp_path / "annotation.provenance.json").write_text(json.dumps(facts))
    assert recipe_of(data, "abc")["section"] == section


def test_metrics_computed_alike_share_a_line() -> None:
    lines = signature_lines(
        {"data": "abc"}, {"bleu": {"version": "1"}, "cider": {"version": "1"}, "meteor": {"version": "2"}}, width=80
    )
    assert lines.splitlines() == ["", "recipe: data abc", "bleu, cider: version 1", "meteor: version 2"]


def test_recipe_signatures_and_what_is_unavailable_stand_under_every_table(tmp_path: Path) -> None:
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
