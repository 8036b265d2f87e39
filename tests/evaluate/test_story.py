"""Scores of reports on phantoms with a story."""

import numpy as np
import pytest

from r2gen.data.phantom_story import STORY_VERSION, PhantomStory
from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.statistics import bootstrap
from r2gen.evaluate.story import StoryScores

REFERENCES = {
    "a": "small left effusion , new . no pneumonia to explain the symptoms . hiatal hernia , unchanged .",
    "b": "left nodule has resolved . contusion on the right .",
    "c": "no effusion .",
}


def test_reports_equal_to_their_references_are_right() -> None:
    scores = StoryScores()(REFERENCES, REFERENCES).corpus
    assert scores == {
        "story_findings_f1": 1,
        "story_change_f1": 1,
        "story_cause_f1": 1,
        "story_lateral_f1": 1,
        "story_misled": 0,
    }


def test_each_mistake_costs_its_own_score() -> None:
    reports = {
        "a": "small left effusion , unchanged . pneumonia on the left . hiatal hernia , unchanged .",
        "b": "left nodule has resolved . pneumonia on the right .",
        "c": "no effusion .",
    }
    scored = StoryScores()(REFERENCES, reports)
    assert scored.corpus == pytest.approx(
        {
            "story_findings_f1": 2 * 2 / (4 + 3),
            "story_change_f1": 2 * 2 / (3 + 3),
            "story_cause_f1": 0,
            "story_lateral_f1": 1,
            "story_misled": 1,
        }
    )
    assert scored.per_report["story_misled"] == {"a": 1}
    assert scored.per_report["story_change_f1"] == {"a": 0.5, "b": 1}


def test_intervals_come_from_the_sums_of_studies() -> None:
    source = PhantomStory(train_studies=1, val_studies=0, test_studies=80, size_px=64, version=STORY_VERSION)
    references = {study.id: study.report for study in source.studies("test")}
    reports = dict(zip(references, [*list(references.values())[1:], ""], strict=True))
    metric = StoryScores()
    scores = metric(references, reports)
    intervals = bootstrap([metric.sums(references, reports, Scores(corpus={}))], resamples=200)
    assert {name: interval.value for name, interval in intervals.items()} == pytest.approx(scores.corpus)
    assert all(np.isfinite([interval.low or 0, interval.high or 0]).all() for interval in intervals.values())


def test_a_score_without_a_case_is_left_out() -> None:
    assert set(StoryScores()({"a": "small left effusion ."}, {"a": "no effusion ."}).corpus) == {"story_findings_f1"}
    with pytest.raises(UserError, match="data=phantom_story"):
        StoryScores()({"a": "no effusion ."}, {"a": "no effusion ."})
