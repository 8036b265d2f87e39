"""Scores of groups of studies."""

import pytest

from r2gen.data.phantom_story import STORY_VERSION, PhantomStory
from r2gen.data.reports import Study
from r2gen.evaluate.nlg import RougeL
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.split_scores import Scorer
from r2gen.evaluate.subgroups import FEWEST, groups_of

STUDIES = PhantomStory(train_studies=1, val_studies=0, test_studies=150, size_px=64, version=STORY_VERSION).studies(
    "test"
)


def test_groups_divide_the_studies_of_which_an_attribute_is_known() -> None:
    groups = groups_of(STUDIES)
    assert set(groups) == {"view", "lateral image", "sex", "age", "reference"}
    assert set(groups["sex"]) == {"female", "male"}
    assert list(groups["age"]) == ["18 to 39", "40 to 59", "60 to 79", "80 and over"]
    for of_value in groups.values():
        ids = [id for some in of_value.values() for id in some]
        assert len(ids) == len(set(ids)) <= len(STUDIES)
        assert all(len(some) >= FEWEST for some in of_value.values())


def test_small_groups_and_attributes_without_a_difference_have_none() -> None:
    same = [Study(str(number), ("x",), "no effusion .", sex="F", age=50, positions=("PA",)) for number in range(40)]
    assert groups_of(same) == {}
    few = [*same, *(Study(f"m{number}", ("x",), "no effusion .", sex="M") for number in range(FEWEST - 1))]
    assert set(groups_of(few)["sex"]) == {"female"}
    assert groups_of(STUDIES[:19]) == {}


def test_the_score_of_a_group_is_that_of_its_studies_alone() -> None:
    reports = [study.report for study in STUDIES]
    predictions = [
        Prediction(study.id, report, study.report, 1, "stop", 0.1)
        for study, report in zip(STUDIES, [*reports[1:], reports[0]], strict=True)
    ]
    scorer = Scorer(metrics={"rouge_l": RougeL()}, best={"rouge_l": 1.0})
    groups = groups_of(STUDIES)
    entry = scorer.entry(scorer.score(predictions, {}), statistics=True, groups=groups)["subgroups"]
    for attribute, of_value in groups.items():
        for value, ids in of_value.items():
            own = [prediction for prediction in predictions if prediction.id in set(ids)]
            group = entry[attribute][value]
            interval = group["scores"]["rouge_l"]
            alone = scorer.score(own, {}).full.scores["model"].corpus["rouge_l"]
            assert group["studies"] == len(ids)
            assert interval["value"] == pytest.approx(alone)
            assert interval["low"] < alone < interval["high"]
