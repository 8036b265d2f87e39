"""Figures of wording agree with counts by hand."""

import pytest

from r2gen.evaluate.wording import wording, wording_entry, wording_line


def test_different_copied_and_repeated_texts_are_counted() -> None:
    reports = ["a b c d", "a  b c d ", "x y", "n o p q n o p q", ""]
    figures = wording(reports, ["a b c d", "x y z"])
    assert (figures.distinct, figures.distinct_rate, figures.copied_rate) == (4, 0.8, 0.4)
    assert figures.mean_words == pytest.approx((4 + 4 + 2 + 8 + 0) / 5)
    assert figures.repeated_rate == pytest.approx(1 / 7)  # of 1 + 1 + 0 + 5 + 0 4-grams one occurs twice


def test_short_reports_and_an_empty_training_split_have_rates_of_0() -> None:
    figures = wording(["", "a b c"], [])
    assert (figures.copied_rate, figures.repeated_rate) == (0, 0)


def test_the_line_has_the_references_in_brackets() -> None:
    entry = wording_entry({"1": "a b c d", "2": "a b c d"}, {"1": "a b c d", "2": "e f"}, ["a b c d"])
    assert wording_line(entry) == (
        "\nreports (references): 1 (2) different; 100.0% (50.0%) copies of training reports; 4.0 (3.0) words; "
        "0.0% (0.0%) of 4-grams repeated"
    )
    assert wording_line(None) == ""
