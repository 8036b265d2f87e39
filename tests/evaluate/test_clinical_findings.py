"""The findings metric agrees with counts by hand."""

import pytest

from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.scoring import score_reports

REFERENCES = {
    "a": "Small effusion. The heart is enlarged.",  # effusion, cardiomegaly
    "b": "No effusion. Possible atelectasis.",  # atelectasis (uncertain)
    "c": "The lungs are clear. Heart size is normal.",  # no finding, normal
    "d": "Small effusion.",  # effusion
}
REPORTS = {
    "a": "Small effusion.",  # right: effusion
    "b": "Small effusion.",  # false: effusion
    "c": "Heart size is normal.",  # right: no finding, normal
    "d": "The heart is enlarged. Nodule in the right lung.",  # false: cardiomegaly, lesion
}


def test_scores_agree_with_counts_by_hand():
    scores = Findings()(REFERENCES, REPORTS)
    # 14: true 5 (2 effusions, cardiomegaly, atelectasis, no finding), stated 5, right 2.
    assert scores.corpus["findings_f1_micro_14"] == pytest.approx(2 * 2 / (5 + 5))
    assert scores.corpus["findings_precision_micro_14"] == pytest.approx(2 / 5)
    assert scores.corpus["findings_recall_micro_14"] == pytest.approx(2 / 5)
    # 5: true 4, stated 3 (2 effusions, cardiomegaly), right 1.
    assert scores.corpus["findings_f1_micro_5"] == pytest.approx(2 * 1 / (4 + 3))
    # Means of effusion (right 1, stated 2, true 2), cardiomegaly 0, atelectasis 0, and no finding 1.
    # No reference has a lesion.
    assert scores.corpus["findings_f1_macro_5"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert scores.corpus["findings_f1_macro_14"] == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert scores.corpus["findings_precision_macro_14"] == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert scores.corpus["findings_recall_macro_5"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert scores.corpus["findings_f1_normal"] == 1
    figures = scores.details["findings"]
    assert figures["Pleural Effusion"] == {"support": 2, "stated": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert figures["Lung Lesion"] == {"support": 0, "stated": 1, "precision": 0, "recall": None, "f1": None}
    assert figures["Atelectasis"] == {"support": 1, "stated": 0, "precision": None, "recall": 0, "f1": 0}
    assert figures["Fracture"] == {"support": 0, "stated": 0, "precision": None, "recall": None, "f1": None}
    assert scores.per_report["findings_f1_micro_14"] == pytest.approx({"a": 2 / 3, "b": 0, "c": 1, "d": 0})
    assert scores.per_report["findings_recall_micro_14"] == pytest.approx({"a": 0.5, "b": 0, "c": 1, "d": 0})


def test_the_policy_for_uncertain_mentions_decides_and_is_in_the_signature():
    references, reports = {"a": "Possible effusion."}, {"a": "Small effusion."}
    values = {policy: Findings(uncertain=policy)(references, reports) for policy in ("positive", "negative", "ignore")}
    assert values["positive"].corpus["findings_f1_micro_5"] == 1
    assert "findings_f1_micro_5" not in values["negative"].corpus
    assert values["negative"].details["findings"]["Pleural Effusion"]["stated"] == 1
    assert values["ignore"].details["findings"]["Pleural Effusion"]["stated"] == 0
    for policy, scores in values.items():
        assert scores.signatures["findings"]["uncertain"] == policy
    with pytest.raises(UserError, match="Choose one of positive, negative, ignore"):
        Findings(uncertain="maybe")  # type: ignore[arg-type]


def test_a_report_equal_to_its_reference_scores_1_and_an_empty_one_0():
    same = Findings()(REFERENCES, REFERENCES)
    assert set(same.corpus) == {spec.name for spec in Findings.scores}
    assert all(value == 1 for value in same.corpus.values())
    empty = Findings()(REFERENCES, dict.fromkeys(REFERENCES, ""))
    assert all(value == 0 for value in empty.corpus.values())


def test_a_score_over_no_positive_finding_is_left_out():
    corpus = Findings()({"a": "The lungs are clear."}, {"a": "Cardiomegaly."}).corpus
    assert corpus["findings_f1_micro_14"] == corpus["findings_f1_normal"] == 0
    assert not any(name.endswith("_5") for name in corpus)


def test_details_are_kept_by_metric():
    scores = score_reports({"findings": Findings()}, REFERENCES, REPORTS)
    assert set(scores.details) == {"findings"}
    assert scores.signatures["findings"]["implementation"] == "r2gen-labeler"
