"""Intervals contain the true value, equal systems are within noise, and sums give the scores of the metrics."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from bootstrap_coverage import bleu, coverage, findings, found_to_differ, skewed_means
from tiers import fast_only

from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import Findings, finding_sums
from r2gen.evaluate.findings import PhantomFindings
from r2gen.evaluate.nlg import Bleu, Cider, RougeL, bleu_of_references, bleu_sums
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.scoring import score_reports, sums_of_scores
from r2gen.evaluate.statistics import bootstrap, compare, holm, join_seeds, student_quantile
from r2gen.evaluate.study_sums import StudySums, mean_sums

NORMAL = "the heart is normal in size . the lungs are clear . no pleural effusion ."
EFFUSION = "there is a left pleural effusion ."
EDEMA = "the heart is enlarged . pulmonary edema . possible pneumonia ."
METRICS: dict[str, Metric] = {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider(), "findings": Findings()}
REFERENCES = {"c": EDEMA, "a": NORMAL, "b": EFFUSION, "d": EFFUSION + " " + EDEMA}
REPORTS = {"a": NORMAL, "b": NORMAL, "c": EDEMA[:20], "d": ""}


def sums(references: Mapping[str, str], reports: Mapping[str, str]) -> list[StudySums]:
    return sums_of_scores(METRICS, references, reports, score_reports(METRICS, references, reports))


def own(values: Mapping[str, float]) -> list[StudySums]:
    return [mean_sums({"own": values}, ids=list(values))]


@pytest.mark.parametrize("reports", [REPORTS, REFERENCES, dict.fromkeys(REFERENCES, "")], ids=["some", "all", "empty"])
def test_sums_over_all_studies_give_the_scores_of_the_metrics(reports: Mapping[str, str]) -> None:
    corpus = score_reports(METRICS, REFERENCES, reports).corpus
    result = bootstrap(sums(REFERENCES, reports), resamples=200)
    assert {name: interval.value for name, interval in result.items()} == pytest.approx(corpus, abs=1e-9)
    for interval in result.values():
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low - 1e-12 <= interval.value <= interval.high + 1e-12


@pytest.mark.parametrize("uncertain", ["positive", "negative", "ignore"])
def test_sums_of_findings_follow_the_policy_for_uncertain_mentions(uncertain: str) -> None:
    metric = Findings(uncertain=uncertain)  # type: ignore[arg-type]
    of_metric = finding_sums(metric, REFERENCES, REPORTS)
    corpus = metric(REFERENCES, REPORTS).corpus
    of_scores = finding_sums(metric, REFERENCES, REPORTS, metric(REFERENCES, REPORTS))
    assert of_scores.sums.tolist() == of_metric.sums.tolist()
    result = {
        name: value for name, value in zip(of_metric.names, of_metric.of_all(), strict=True) if not np.isnan(value)
    }
    assert result == pytest.approx(corpus, abs=1e-9)


@pytest.mark.parametrize("reports", [REPORTS, REFERENCES, dict.fromkeys(REFERENCES, "")], ids=["some", "all", "empty"])
def test_sums_of_phantom_findings_give_their_scores(reports: Mapping[str, str]) -> None:
    metric = PhantomFindings()
    scores = metric(REFERENCES, reports)
    of_metric = metric.sums(REFERENCES, reports, scores)
    assert of_metric is not None
    assert dict(zip(of_metric.names, of_metric.of_all(), strict=True)) == pytest.approx(scores.corpus)
    nothing_to_find = of_metric.values(of_metric.sums[[of_metric.ids.index("a")]])[0]
    assert list(nothing_to_find) == [scores.per_report[name]["a"] for name in of_metric.names]
    assert set(bootstrap(sums_of_scores({"own": metric}, REFERENCES, reports, scores), resamples=50)) == set(
        of_metric.names
    )


def test_sums_give_bleu_of_captions_with_five_references_each(shared: Path) -> None:
    folder = shared / "metrics" / "coco_captions"
    captions, several = (json.loads((folder / name).read_text()) for name in ("res.json", "gts.json"))
    expected = json.loads((folder / "expected.json").read_text())["expected"]
    result = bleu_sums({id: several[id] for id in captions}, {id: captions[id][0] for id in captions})
    own_values = bleu_of_references([several[id] for id in captions], [captions[id][0] for id in captions])[0]
    assert result.of_all() == pytest.approx(own_values, abs=1e-9)
    assert result.of_all() == pytest.approx([expected[f"Bleu_{length}"] for length in range(1, 5)], abs=1e-6)


def test_a_seed_gives_the_same_interval_for_every_order_of_studies() -> None:
    reordered = {id: REFERENCES[id] for id in "dcab"}
    first, again = bootstrap(sums(REFERENCES, REPORTS), seed=3), bootstrap(sums(reordered, REPORTS), seed=3)
    for name, interval in first.items():
        assert (again[name].low, again[name].high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    other = bootstrap(own({"a": 0.1, "b": 0.5, "c": 0.9}), seed=4, resamples=50)
    assert other != bootstrap(own({"a": 0.1, "b": 0.5, "c": 0.9}), seed=5, resamples=50)


def test_the_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(10, 3, 4000)
    result = bootstrap(own({str(index): value for index, value in enumerate(values.tolist())}))["own"]
    half = 1.96 * values.std() / np.sqrt(4000)
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)
    assert result.draws == 10_000


def test_a_single_study_has_a_value_and_no_interval() -> None:
    result = bootstrap(sums({"a": EFFUSION}, {"a": EFFUSION}), resamples=20)
    assert (result["bleu_4"].value, result["bleu_4"].low, result["bleu_4"].high) == (pytest.approx(1), None, None)
    pair = compare({"first": own({"a": 0.1}), "second": own({"a": 0.9})}, resamples=20)[0]
    assert (pair.p, pair.difference.low, pair.within_noise) == (1.0, None, True)


def test_identical_values_have_an_interval_of_width_0_and_no_difference() -> None:
    same = own(dict.fromkeys("abcde", 0.3))
    result = bootstrap(same, resamples=50)["own"]
    assert (result.low, result.high) == pytest.approx((0.3, 0.3))
    pair = compare({"first": same, "second": same}, resamples=50)[0]
    assert (pair.p, pair.difference.value, pair.difference.low, pair.difference.high) == (1.0, 0.0, 0.0, 0.0)


def test_a_resample_without_a_value_does_not_count() -> None:
    references = {"a": EFFUSION, "b": NORMAL, "c": NORMAL}
    result = bootstrap(sums(references, references), resamples=1000)["findings_f1_micro_5"]
    assert (result.value, result.low) == (1.0, 1.0)
    assert 650 < result.draws < 760  # 1 - (2/3)^3 of the resamples contain the study with a finding
    healthy = bootstrap(sums({"a": NORMAL, "b": NORMAL}, {"a": NORMAL, "b": NORMAL}), resamples=20)
    assert not [name for name in healthy if name.endswith("_5")]
    assert "findings_f1_normal" in healthy


@pytest.mark.parametrize("scores", fast_only([skewed_means, bleu, findings], bleu))
def test_intervals_contain_the_true_value_in_95_percent_of_cases(scores) -> None:  # type: ignore[no-untyped-def]
    covered = coverage(scores, studies=200, sets=500, resamples=400)
    for name in covered.keys() & {"skewed_mean", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "findings_f1_micro_14"}:
        assert 0.93 <= covered[name] <= 0.97, covered


@pytest.mark.parametrize("scores", fast_only([skewed_means, bleu, findings], bleu))
def test_equal_systems_are_within_noise_and_a_better_one_is_not(scores) -> None:  # type: ignore[no-untyped-def]
    names = "skewed_mean", "bleu_1", "bleu_4", "findings_f1_micro_14"
    apart = found_to_differ(scores, studies=60, sets=500, better=0.0, resamples=200)
    assert max(apart[name] for name in names if name in apart) <= 0.07, apart
    differing = found_to_differ(scores, studies=300, sets=20, better=0.3, resamples=200)
    assert min(differing[name] for name in names if name in differing) >= 0.9, differing


def test_p_of_more_than_two_systems_is_corrected() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    draw = np.random.default_rng(1)
    base = draw.normal(size=60)
    better = {f"{index:02}": value for index, value in enumerate((base + draw.normal(0.4, 1, 60)).tolist())}
    plain = {f"{index:02}": value for index, value in enumerate(base.tolist())}
    pairs = compare({"a": own(plain), "b": own(better), "c": own(plain)})
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.within_noise for pair in pairs] == [False, True, False]
    assert pairs[0].p_holm == pytest.approx(3 * min(pairs[0].p, pairs[2].p))
    assert pairs[0].difference.low is not None
    assert pairs[0].difference.low > 0


def test_systems_on_different_studies_are_refused() -> None:
    with pytest.raises(UserError, match="ids differ"):
        compare({"a": own({"x": 1.0}), "b": own({"y": 1.0})})
    with pytest.raises(UserError, match="no study"):
        bootstrap(own({}))
    assert bootstrap([]) == {}
    assert compare({"a": own({"x": 1.0})}) == []


def test_means_over_seeds_have_students_interval() -> None:
    quantiles = {1: 12.7062, 2: 4.30265, 4: 2.77645, 9: 2.26216, 30: 2.04227}
    assert {degrees: student_quantile(degrees) for degrees in quantiles} == pytest.approx(quantiles, abs=1e-4)
    result = join_seeds([1.0, 2.0, 3.0])
    assert (result.value, result.low, result.high) == pytest.approx(
        (2, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-5
    )
    assert (join_seeds([0.5]).value, join_seeds([0.5]).low) == (0.5, None)
    with pytest.raises(UserError, match="finite"):
        join_seeds([float("nan")])
