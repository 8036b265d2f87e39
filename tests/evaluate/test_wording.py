"""How a model words its reports is counted as a reader would count it."""

import pytest

from r2gen.evaluate.wording import wording, wording_entry, wording_line


def test_different_copied_and_repeating_reports_are_counted() -> None:
    reports = ["a b c d", "a  b c d ", "x y", "n o p q n o p q", ""]
    found = wording(reports, ["a b c d", "x y z"])
    assert (found.distinct, found.distinct_rate, found.copied_rate) == (4, 0.8, 0.4)
    assert found.mean_words == pytest.approx((4 + 4 + 2 + 8 + 0) / 5)
    assert found.repeated_rate == pytest.approx(1 / 7)  # of 1 + 1 + 0 + 5 + 0 runs of four words "n o p q" comes again


def test_reports_too_short_to_repeat_and_no_training_split() -> None:
    found = wording(["", "a b c"], [])
    assert (found.copied_rate, found.repeated_rate) == (0, 0)


def test_the_line_has_the_references_in_brackets() -> None:
    entry = wording_entry({"1": "a b c d", "2": "a b c d"}, {"1": "a b c d", "2": "e f"}, ["a b c d"])
    assert wording_line(entry) == (
        "\nreports (references): 1 (2) different; 100.0% (50.0%) copies of training; 4.0 (3.0) words; "
        "0.0% (0.0%) of 4-grams repeated"
    )
    assert wording_line(None) == ""
