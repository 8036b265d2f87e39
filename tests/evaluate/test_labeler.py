"""The labeler applies CheXpert's conventions, and accepts any text."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from r2gen.data.cleaning import clean_report
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.evaluate.labeler import FIVE, NO_FINDING, OBSERVATIONS, Status, digest, label_report
from r2gen.evaluate.labeler.phrases import FILES, assertions, observations
from r2gen.evaluate.labeler.sentences import clauses, sentences
from r2gen.evaluate.labeler.words import KEY_WORDS, corrected, normal_text

LETTERS = {
    "A": "Atelectasis",
    "C": "Cardiomegaly",
    "D": "Support Devices",
    "E": "Edema",
    "F": "Fracture",
    "K": "Consolidation",
    "L": "Lung Lesion",
    "M": "Enlarged Cardiomediastinum",
    "N": "Pneumonia",
    "O": "Lung Opacity",
    "P": "Pleural Effusion",
    "T": "Pleural Other",
    "X": "Pneumothorax",
    "Z": NO_FINDING,
}
STATUSES = {"+": Status.POSITIVE, "-": Status.NEGATIVE, "?": Status.UNCERTAIN}
OF_PHANTOM = {
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "effusion": "Pleural Effusion",
    "nodule": "Lung Lesion",
    "pacemaker": "Support Devices",
    "pneumothorax": "Pneumothorax",
    "tube": "Support Devices",
}
CODES = {"": None, "1.0": Status.POSITIVE, "0.0": Status.NEGATIVE, "-1.0": Status.UNCERTAIN}


def written_cases() -> list[tuple[str, dict[str, Status]]]:
    lines = Path(__file__).with_name("labeler_sentences.txt").read_text(encoding="utf-8").splitlines()
    halves = [line.split("|", 1) for line in lines if line and not line.startswith("#")]
    return [(text.strip(), {LETTERS[one[0]]: STATUSES[one[1]] for one in labels.split()}) for labels, text in halves]


CASES = written_cases()


def labels_of(text: str, *, with_no_finding: bool) -> dict[str, Status]:
    labels = label_report(text).status
    return {name: status for name, status in labels.items() if with_no_finding or name != NO_FINDING}


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_a_sentence_is_labelled_by_the_conventions(text: str, expected: dict[str, Status]):
    assert labels_of(text, with_no_finding=NO_FINDING in expected) == expected


def test_the_sentences_cover_every_observation_and_every_status():
    seen = {(name, status) for _, expected in CASES for name, status in expected.items()}
    assert len(CASES) >= 150
    assert {name for name, _ in seen} == set(OBSERVATIONS)
    assert {status for _, status in seen} == set(Status)


def test_the_chexpert_labelers_own_sample_is_reproduced(shared: Path):
    with (shared / "metrics" / "chexpert_sample" / "labeled_reports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        expected = {name: CODES[row[name]] for name in OBSERVATIONS if CODES[row[name]] is not None}
        assert label_report(row["Reports"]).status == expected, row["Reports"]


def test_positive_outranks_uncertain_and_uncertain_outranks_negative():
    sure, unsure, none = "Small effusion.", "Possible effusion.", "No effusion."
    assert label_report(f"{none} {unsure} {sure}").status["Pleural Effusion"] is Status.POSITIVE
    assert label_report(f"{none} {unsure}").status["Pleural Effusion"] is Status.UNCERTAIN
    assert label_report(f"{none} The lungs are clear.").status["Pleural Effusion"] is Status.NEGATIVE


@pytest.mark.parametrize(
    ("text", "no_finding", "normal"),
    [
        ("Heart size is normal. The lungs are clear. No effusion.", True, True),
        ("Heart size is normal. Degenerative changes of the spine.", True, False),
        ("Calcified granuloma in the left lung. No acute disease.", True, False),
        ("Low lung volumes. No acute findings.", True, False),
        ("Sternotomy wires. The lungs are clear.", True, False),
        ("No pacemaker. No calcified granulomas. The lungs are clear.", True, True),
        ("Possible small effusion.", False, False),
        ("Cardiomegaly.", False, False),
        ("", False, False),
        (" . 12 ! ?\n", False, False),
        ("the of and no is . xxxx", False, False),
    ],
)
def test_normal_is_stricter_than_no_finding_and_both_need_a_text_about_a_chest(
    text: str, no_finding: bool, normal: bool
):
    labels = label_report(text)
    assert (NO_FINDING in labels.status, labels.normal) == (no_finding, normal)


# Reports made of the written sentences, and of words to which the rules react.
REPORTS = st.lists(st.sampled_from([text for text, _ in CASES]), min_size=1, max_size=4).map("\n\n".join)
RULE_WORDS = (
    "no not without but or and with may cannot exclude effusion effusions heart enlarged normal size mediastinum"
    " , . ; : ? XXXX pneumonia versus likely 1. 2.5 cm history of resolved unchanged opacity is are there"
)
WORDS = st.lists(st.sampled_from(RULE_WORDS.split()), max_size=25).map(" ".join)


@given(REPORTS)
def test_case_and_white_space_do_not_matter(report: str):
    expected = label_report(report)
    assert label_report(report.upper()) == expected
    assert label_report(f"  {report} \n".replace(" ", "  ").replace(". ", ".\t ")) == expected


@given(st.permutations([text for text, _ in CASES[::17]]))
def test_the_order_of_sentences_does_not_matter(ordered: list[str]):
    expected = label_report("\n\n".join(text for text, _ in CASES[::17]))
    assert label_report("\n\n".join(ordered)) == expected


@settings(max_examples=200)
@given(st.one_of(st.text(), WORDS))
def test_any_text_can_be_labelled(text: str):
    labels = label_report(text)
    assert set(labels.status) <= set(OBSERVATIONS)
    assert not labels.normal or labels.status[NO_FINDING] is Status.POSITIVE
    assert label_report(text) == labels
    for sentence in sentences(normal_text(text)):
        spans = clauses(sentence)
        assert all(0 <= start < end <= len(sentence) for start, end in spans)
        assert spans == sorted(spans)


def test_long_texts_are_labelled():
    for part in ("no effusion, ", "heart ", "a" * 50, "( ", "no no ", "XXXX ", "the heart is normal and "):
        label_report(part * 2000)


@pytest.mark.parametrize("cleaner", ["iu_xray", "mimic_cxr"])
def test_r2gens_cleaners_change_almost_no_label(cleaner: str):
    """They remove commas, slashes and colons, so the rules must not depend on these."""
    changed = [
        text
        for text, expected in CASES
        if "?" not in text
        and ";" not in text
        and ":" not in text
        and labels_of(clean_report(text, cleaner), with_no_finding=NO_FINDING in expected) != expected
    ]
    assert len(changed) <= 0.02 * len(CASES), changed


def test_all_findings_of_phantom_reports_are_labelled():
    rng = np.random.default_rng(0)
    for _ in range(200):
        findings = frozenset(finding for finding in FINDINGS if rng.random() < 0.2)
        labels = label_report(write_report(findings, rng)).status
        stated = {name for name, status in labels.items() if status is not Status.NEGATIVE}
        assert stated - {NO_FINDING} == {OF_PHANTOM[finding.split(":")[0]] for finding in findings}
        assert (NO_FINDING in stated) == (stated <= {NO_FINDING, "Support Devices"})


def test_one_error_in_a_long_word_is_corrected_and_other_words_do_not_change():
    assert [corrected(word) for word in ("effussion", "pnuemonia", "pneumothroax", "cardiomegally", "atelectsis")] == [
        "effusion",
        "pneumonia",
        "pneumothorax",
        "cardiomegaly",
        "atelectasis",
    ]
    for word in ("infusion", "diffusion", "engorgement", "capacity", "abnormal", "formal", "pneumonitis", *KEY_WORDS):
        assert corrected(word) == word


def test_the_phrase_tables_name_every_observation_and_change_the_digest():
    assert {one.name for one in observations()} == (set(OBSERVATIONS) - {NO_FINDING}) | {"Other"}
    assert set(FIVE) < set(OBSERVATIONS)
    assert len(digest()) == 6
    for file in FILES:
        assert yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(yaml.safe_load(FILES[1].read_text(encoding="utf-8"))) == set(assertions().groupindex)


def test_the_labeler_needs_no_torch():
    code = "import sys, r2gen.evaluate.clinical_findings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
