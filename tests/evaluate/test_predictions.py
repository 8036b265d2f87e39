"""A prediction file that was edited by hand is read as it is, or refused with one message."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.predictions import Prediction, read_predictions, write_predictions

PREDICTION = Prediction(id="s1", report="clear .", reference="normal .", tokens=2, finish="stop", seconds=0.1)

REFERENCES = {"s1": "normal ."}


@pytest.mark.parametrize("report", [None, 7, float("nan"), ["clear ."]])
def test_a_report_that_is_not_text_is_refused_with_its_line(report: object, tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [PREDICTION])
    lines = [json.dumps({"header": {}}), json.dumps(asdict(PREDICTION) | {"report": report})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"p\.jsonl: cannot be read: line 2: \"report\" is missing or has another type"):
        read_predictions(tmp_path / "p.jsonl", {}, REFERENCES)


def test_a_line_separator_inside_a_report_does_not_end_the_line(tmp_path: Path):
    lines = [json.dumps({"header": {}}), json.dumps(asdict(PREDICTION) | {"report": "a\u2028b"}, ensure_ascii=False)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    predictions = read_predictions(tmp_path / "p.jsonl", {}, REFERENCES)
    assert predictions is not None
    assert predictions[0].report == "a\u2028b"


def test_an_edited_reference_is_refused_with_its_id(tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [PREDICTION])
    with pytest.raises(UserError, match=r"the reference of 's1' differs from the data set's\. Remove"):
        read_predictions(tmp_path / "p.jsonl", {}, {"s1": "clear ."})


def test_predictions_of_other_studies_or_another_header_are_not_reused(tmp_path: Path):
    write_predictions(tmp_path / "p.jsonl", {}, [PREDICTION])
    assert read_predictions(tmp_path / "p.jsonl", {}, REFERENCES) == [PREDICTION]
    assert read_predictions(tmp_path / "p.jsonl", {}, {"s2": "normal ."}) is None
    assert read_predictions(tmp_path / "p.jsonl", {"code": "other"}, REFERENCES) is None
