"""The reward of self-critical training: CIDEr as pycocoevalcap computes it, BLEU-4 and findings of one report."""

import random

import pytest
from pycocoevalcap.cider.cider_scorer import CiderScorer

from r2gen.data.phantom import Phantom
from r2gen.evaluate.reward import CiderReward, Reward, bleu_4, findings_f1

NORMAL = "the heart is normal in size . the lungs are clear ."
EFFUSION = "the heart is normal in size . small left pleural effusion ."


def test_cider_equals_pycocoevalcap_with_the_same_document_frequencies():
    data = Phantom(train_studies=60, val_studies=0, test_studies=0, size_px=32, version=1)
    references = {study.id: study.report for study in data.studies("train")}
    luck = random.Random(0)
    reports = {id: " ".join(luck.choices([*text.split(), "unseen"], k=30)) for id, text in references.items()}
    first, *others = references
    reports[first] = references[first]
    reports[others[0]] = ""
    scorer = CiderScorer(n=4, sigma=6.0)
    for id, text in references.items():
        scorer += (reports[id], [text])
    _, expected = scorer.compute_score()
    reward = CiderReward(references)
    assert [reward(id, report) for id, report in reports.items()] == pytest.approx(list(expected), abs=1e-9)


def test_bleu_4_of_one_report():
    assert bleu_4(NORMAL, NORMAL) == pytest.approx(1.0)
    assert bleu_4("", NORMAL) == bleu_4("unknown", NORMAL) == 0.0
    assert 0 < bleu_4(EFFUSION, NORMAL) < bleu_4(NORMAL + " .", NORMAL) < 1


def test_findings_f1_of_one_report():
    assert findings_f1(NORMAL, NORMAL) == findings_f1(EFFUSION, EFFUSION) == 1.0
    assert findings_f1(NORMAL, EFFUSION) == 0.0
    assert findings_f1("large heart . small left pleural effusion .", EFFUSION) == pytest.approx(2 / 3)
    assert findings_f1("", "") == 1.0


def test_the_reward_is_the_weighted_sum():
    references = {"a": NORMAL, "b": EFFUSION, "c": "the heart is large ."}
    parts = [
        Reward(references, cider=cider, findings=findings, bleu_4=bleu)(["a", "b"], [EFFUSION, EFFUSION])
        for cider, findings, bleu in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 2, 3))
    ]
    assert parts[3] == pytest.approx([0.5 * a + 2 * b + 3 * c for a, b, c in zip(*parts[:3], strict=True)])
    assert parts[1] == [0.0, 1.0]
