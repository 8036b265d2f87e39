"""The cleaners return the same strings as R2Gen's."""

import json
from pathlib import Path

import pytest
from smallest_run import ROOT

from r2gen.data.cleaning import clean_report, is_empty


@pytest.mark.parametrize("pair", json.loads((ROOT / "tests/golden/cleaner.json").read_text(encoding="utf-8")), ids=str)
def test_our_own_texts_are_cleaned_as_by_r2gen(pair: dict[str, str]) -> None:
    assert clean_report(pair["raw"], pair["cleaner"]) == pair["cleaned"]


def test_every_golden_text_is_cleaned_as_by_r2gen(shared: Path) -> None:
    golden = shared / "data/cleaner_golden.json"
    pairs = json.loads(golden.read_text(encoding="utf-8"))
    assert len(pairs) == 42
    for pair in pairs:
        assert clean_report(pair["raw"], pair["cleaner"]) == pair["cleaned"]


def test_without_a_cleaner_only_white_space_at_the_ends_is_removed() -> None:
    assert clean_report(" No  Effusion.\n", "none") == "No  Effusion."


def test_iu_xray_removes_the_characters_of_r2gens_accidental_range_and_mimic_cxr_keeps_them() -> None:
    assert clean_report("left > right <3 a=b @ home", "iu_xray") == "left  right 3 ab  home ."
    assert clean_report("left > right <3 a=b @ home", "mimic_cxr") == "left > right <3 a=b @ home ."


@pytest.mark.parametrize(
    ("report", "empty"), [("", True), (" .", True), (" . _ .", True), ("é .", False), ("2", False)]
)
def test_a_report_of_punctuation_only_is_empty(report: str, empty: bool) -> None:
    assert is_empty(report) is empty


def test_a_report_may_contain_any_character() -> None:
    controls = "".join(map(chr, range(0x250)))
    assert clean_report(f"a{controls}b. c", "mimic_cxr").endswith("b . c .")
    assert clean_report("a\0. \1b. c", "iu_xray") == "a\0 . \1b . c ."
