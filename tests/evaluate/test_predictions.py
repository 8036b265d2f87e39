"""A prediction file that was edited by hand is read as it stands, or refused in one message."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.predictions import Prediction, read_predictions, write_predictions

ONE = Prediction(id="s1", report="clear .", reference="normal .", tokens=2, finish="stop", seconds=0.1)

REFERENCES = {"s1": "normal ."}


@pytest.mark.parametrize("report", [None, 7, float("nan"), ["clear ."]])
def test_a_report_that_is_no_text_is_refused_with_its_id(report: object, tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [ONE])
    lines = [json.dumps({"header": {}}), json.dumps(asdict(ONE) | {"report": report})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"p\.jsonl cannot be read: the report or reference of 's1' is no text; remove"):
        read_predictions(tmp_path / "p.jsonl", {}, REFERENCES)


def test_a_line_separator_inside_a_report_ends_no_line(tmp_path: Path):
    lines = [json.dumps({"header": {}}), json.dumps(asdict(ONE) | {"report": "a\u2028b"}, ensure_ascii=False)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_predictions(tmp_path / "p.jsonl", {}, REFERENCES)
    assert found is not None
    assert found[0].report == "a\u2028b"


def test_an_edited_reference_is_refused_with_its_id(tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [ONE])
    with pytest.raises(UserError, match=r"the reference of 's1' is not that of the data; remove it"):
        read_predictions(tmp_path / "p.jsonl", {}, {"s1": "clear ."})


def test_other_studies_or_another_header_are_made_anew(tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [ONE])
    assert read_predictions(tmp_path / "p.jsonl", {}, REFERENCES) == [ONE]
    assert read_predictions(tmp_path / "p.jsonl", {}, {"s2": "normal ."}) is None
    assert read_predictions(tmp_path / "p.jsonl", {"code": "other"}, REFERENCES) is None
