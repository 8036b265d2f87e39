"""Words of change: which statements count, which are denied, and the published temporal entity F1."""

import pytest

from r2gen.data.phantom_story import STORY_VERSION, PhantomStory
from r2gen.evaluate.change import CHANGES, TEMPORAL, Change, stated_changes
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.statistics import bootstrap

SENTENCES = (
    ("New consolidation in the left lower lobe.", {"new"}),
    ("There is no new consolidation.", set()),
    ("The effusion has increased in size since the prior study.", {"worse"}),
    ("Worsening edema, with interval improvement of the effusion.", {"worse", "better"}),
    ("Small left effusion, decreased.", {"better"}),
    ("The right pneumothorax has resolved.", {"resolved"}),
    ("The endotracheal tube is no longer seen.", {"resolved"}),
    ("The catheter has been removed.", {"resolved"}),
    ("The heart size is unchanged.", {"unchanged"}),
    ("No significant interval change.", {"unchanged"}),
    ("There has not been any change in the cardiac silhouette.", {"unchanged"}),
    ("Persistent bibasilar atelectasis, stable cardiomegaly.", {"unchanged"}),
    ("The lungs have not improved.", set()),
    ("There is no worsening of the opacity.", set()),
    ("No pneumothorax, but the effusion is larger.", {"worse"}),
    ("The hemidiaphragm is elevated and the heart is enlarged.", set()),
    ("No focal consolidation, pleural effusion or pneumothorax.", set()),
    ("Effusions, right greater than left. Lung volumes are decreased. Increased interstitial markings.", set()),
    ("", set()),
)


@pytest.mark.parametrize(("sentence", "expected"), SENTENCES)
def test_statements_of_change_are_read(sentence: str, expected: set[str]) -> None:
    assert stated_changes(sentence) == expected


def test_the_scores_count_changes_of_each_report() -> None:
    references = {"a": "new effusion . stable nodule .", "b": "the tube was removed .", "c": "clear lungs ."}
    reports = {"a": "new effusion . larger nodule .", "b": "no tube .", "c": "clear lungs ."}
    scores = Change()(references, reports)
    assert scores.corpus == pytest.approx(
        {
            "change_f1": 2 * 1 / (2 + 3),
            "change_precision": 1 / 2,
            "change_recall": 1 / 3,
            "temporal_f1": (0.5 + 1 + 1) / 3,  # of b, neither text has a word of the published list
        }
    )
    assert scores.details["change"]["unchanged"]["support"] == 1
    assert scores.per_report["change_f1"] == {"a": 0.5, "b": 0.0}


def test_without_a_change_in_the_references_only_the_published_score_has_a_value() -> None:
    texts = {"a": "clear lungs .", "b": "no effusion ."}
    assert Change()(texts, texts).corpus == {"temporal_f1": 1.0}
    assert Change()(texts, dict.fromkeys(texts, "new nodule .")).corpus == {"temporal_f1": 0.0}


def test_the_published_words_are_complete() -> None:
    assert len(TEMPORAL) == 44
    assert {"bigger", "unfolded", "unaltered", "worsening"} <= TEMPORAL


def test_the_changes_of_phantoms_are_read_without_a_mistake() -> None:
    names = {"larger": "worse", "smaller": "better"}
    source = PhantomStory(train_studies=400, val_studies=0, test_studies=0, size_px=64, version=STORY_VERSION)
    for study in source.studies("train"):
        changes = {names.get(change, change) for change in source.truth(study.id).changes.values()}
        assert stated_changes(study.report) == changes, study.report
        assert changes <= set(CHANGES)


def test_intervals_come_from_the_sums_of_studies() -> None:
    references = {str(number): ("new effusion ." if number % 3 else "stable nodule .") for number in range(30)}
    reports = {id: ("new effusion ." if int(id) % 2 else "no effusion .") for id in references}
    metric = Change()
    intervals = bootstrap([metric.sums(references, reports, Scores(corpus={}))], resamples=100)
    corpus = metric(references, reports).corpus
    assert {name: interval.value for name, interval in intervals.items()} == pytest.approx(corpus)
