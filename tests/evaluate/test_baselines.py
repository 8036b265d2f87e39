"""The constant report is the best training report, and no study keeps its own report when reports are shuffled."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.errors import UserError
from r2gen.evaluate.baselines import ConstantScores, constant_report, random_reports, shuffled_reports
from r2gen.evaluate.nlg import Bleu, Cider

TEXTS = st.lists(st.sampled_from(["the", "heart", "is", "no", "effusion", "."]), min_size=1, max_size=12).map(" ".join)


def phantom_reports(count: int, *, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [write_report(frozenset(name for name in FINDINGS if rng.random() < 0.15), rng) for _ in range(count)]


def half_bleu_4_half_cider(references: Mapping[str, str], reports: Mapping[str, str]) -> float:
    bleu_4 = Bleu()(references, reports).corpus["bleu_4"]
    return 0.5 * bleu_4 + 0.5 * Cider()(references, reports).corpus["cider"]


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5))
def test_the_fast_scores_of_a_constant_report_equal_those_of_the_metrics(report: str, references: list[str]) -> None:
    by_id = {str(index): text for index, text in enumerate(references)}
    constant = dict.fromkeys(by_id, report)
    bleu_4, cider = ConstantScores(references).bleu_4_and_cider(report)
    assert bleu_4 == pytest.approx(Bleu()(by_id, constant).corpus["bleu_4"], abs=1e-9)
    assert cider == pytest.approx(Cider()(by_id, constant).corpus["cider"], abs=1e-9)


def test_the_constant_report_is_the_best_of_all_training_reports() -> None:
    train = phantom_reports(40, seed=0)
    val = {str(index): report for index, report in enumerate(phantom_reports(20, seed=1))}
    values = {report: half_bleu_4_half_cider(val, dict.fromkeys(val, report)) for report in train}
    chosen = constant_report(train, val, half_bleu_4_half_cider)
    assert values[chosen] == max(values.values())
    assert constant_report(train[::-1], val, half_bleu_4_half_cider) == chosen


def test_the_requested_score_decides_within_the_shortlist() -> None:
    val = {"a": "no effusion is seen today .", "b": "no effusion is seen here ."}
    train = [*val.values(), "the heart is large ."]
    assert constant_report(train, val, lambda _, reports: float("here" in reports["a"])) == val["b"]


def test_of_many_training_reports_two_thousand_are_ranked_and_three_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/speed.py shows the seconds."""
    ranked, scored = [], []
    quick = ConstantScores.bleu_4_and_cider

    def count(self: ConstantScores, report: str) -> tuple[float, float]:
        ranked.append(report)
        return quick(self, report)

    def score(references: Mapping[str, str], reports: Mapping[str, str]) -> float:
        scored.append(reports)
        return half_bleu_4_half_cider(references, reports)

    monkeypatch.setattr(ConstantScores, "bleu_4_and_cider", count)
    val = {str(index): report for index, report in enumerate(phantom_reports(5, seed=3))}
    constant_report([f"report number {number} ." for number in range(3000)], val, score)
    assert len(ranked) == 2000
    assert len(scored) == 3


def test_a_constant_report_needs_reports() -> None:
    for train, val in (([], {"a": "x"}), (["", " "], {"a": "x"}), (["x"], {})):
        with pytest.raises(UserError, match="at least one training report and one validation study"):
            constant_report(train, val, half_bleu_4_half_cider)


@given(st.integers(2, 30), st.integers(0, 5))
def test_shuffling_gives_every_report_once_and_never_to_its_own_study(studies: int, seed: int) -> None:
    reports = {str(index): f"report {index}" for index in range(studies)}
    shuffled = shuffled_reports(reports, seed)
    assert list(shuffled) == list(reports)
    assert sorted(shuffled.values()) == sorted(reports.values())
    assert all(shuffled[id] != reports[id] for id in reports)
    assert shuffled_reports(dict(reversed(reports.items())), seed) == shuffled


def test_a_single_study_keeps_its_report() -> None:
    assert shuffled_reports({"a": "x"}, 0) == {"a": "x"}
    assert shuffled_reports({}, 0) == {}


def test_a_random_report_is_a_training_report_and_does_not_depend_on_other_studies() -> None:
    train = [f"report {number}" for number in range(50)]
    ids = [str(number) for number in range(40)]
    given = random_reports(ids, train, 0)
    assert list(given) == ids
    assert set(given.values()) <= set(train)
    assert len(set(given.values())) > 15
    assert random_reports(ids[7:9], train, 0) == {id: given[id] for id in ids[7:9]}
    assert random_reports(ids, train, 1) != given
