"""Phantoms with a story: the reader inverts the grammar, and each input knows something that no other does."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from r2gen.data.phantom_images import DRAW, draw_body
from r2gen.data.phantom_story import STORY_VERSION, PhantomStory
from r2gen.data.phantom_story_reports import CHANGES, HAZE, LATERAL_ONLY, read_story
from r2gen.data.phantom_story_studies import Story
from r2gen.data.reports import Study
from r2gen.errors import UserError


def data(*, misleading: float = 0.2, version: int = STORY_VERSION) -> PhantomStory:
    return PhantomStory(
        train_studies=2000, val_studies=3, test_studies=3, size_px=64, misleading=misleading, version=version
    )


@cache
def train() -> list[tuple[Study, Story]]:
    source = data()
    return [(study, source.truth(study.id)) for study in source.studies("train")]


def kinds(findings: frozenset[str]) -> set[str]:
    return {finding.partition(":")[0] for finding in findings}


def test_the_reader_inverts_the_grammar() -> None:
    for study, truth in train():
        stated = read_story(study.report)
        assert stated.findings == truth.findings == study.findings, study
        assert stated.changes == frozenset(truth.changes.items()), study
        assert stated.doubted == truth.doubted, study
        if study.prior is not None:
            assert study.prior.report is not None
            before = read_story(study.prior.report)
            assert before.findings == frozenset(truth.before or ())
            assert not before.changes


def test_reports_are_in_cleaned_form_and_speak_of_change_only_with_a_prior_study() -> None:
    for study, truth in train():
        assert study.report == study.report.lower()
        assert study.report.endswith(" .")
        assert (study.prior is None) == (study.comparison == "none .")
        assert study.prior is not None or not truth.changes


def test_size_and_number_of_findings_do_not_tell_the_change() -> None:
    """Without the prior study, the best guess is right in a third of the cases where there is a size."""
    counted = Counter(
        (truth.sizes[finding], change)
        for _, truth in train()
        for finding, change in truth.changes.items()
        if truth.sizes.get(finding)
    )
    for size in ("small", "large"):
        of_size = [counted[size, change] for change in CHANGES if counted[size, change]]
        assert len(of_size) == 3
        assert max(of_size) / sum(of_size) < 0.4


def test_the_share_of_misleading_indications_is_that_of_the_option() -> None:
    truths = [truth for _, truth in train() if truth.indicated]
    assert 0.17 < sum(truth.misleads for truth in truths) / len(truths) < 0.23
    for truth in truths:
        if truth.named is not None:
            assert (truth.named in kinds(truth.findings)) != truth.misleads
    few = data(misleading=0.0)
    assert not any(few.truth(study.id).misleads for study in few.studies("train"))


def test_only_the_indication_tells_the_cause_of_a_haze() -> None:
    rng, seen = np.random.default_rng(0), set()
    body = draw_body(rng)
    for kind in DRAW:
        images = [DRAW[kind](frozenset({f"{haze}:left"}), np.random.default_rng(1), 64, body=body) for haze in HAZE]
        assert (images[0] == images[1]).all()
        without = DRAW[kind](frozenset(), np.random.default_rng(1), 64, body=body)
        seen.add(bool((images[0] != without).any()))
    assert True in seen
    for study, truth in train():
        for cause in kinds(truth.findings) & set(HAZE):
            assert truth.named == cause
            assert study.indication is not None
            assert cause in study.indication
            assert study.prior is None or cause not in (study.prior.report or "")


def test_only_the_lateral_image_shows_two_findings() -> None:
    for study, truth in train():
        assert truth.lateral or not truth.findings & set(LATERAL_ONLY)
        assert study.positions == (("PA", "LATERAL") if truth.lateral else ("AP",))
    body = draw_body(np.random.default_rng(0))
    for finding in LATERAL_ONLY:
        body.spots.setdefault(finding, (0.5, 0.5, 0.5))
        shown = {
            kind: bool(
                (
                    DRAW[kind](frozenset({finding}), np.random.default_rng(1), 64, body=body)
                    != DRAW[kind](frozenset(), np.random.default_rng(1), 64, body=body)
                ).any()
            )
            for kind in DRAW
        }
        assert shown == {"frontal": False, "lateral": True}


def test_the_prior_study_shows_the_same_patient_before() -> None:
    source = data()
    study, truth = next((study, truth) for study, truth in train() if study.prior and truth.lateral)
    assert study.prior is not None
    now = [np.asarray(source.image(view), dtype=float) for view in study.views]
    then = [np.asarray(source.image(view), dtype=float) for view in study.prior.views]
    assert len(now) == len(then) == 2
    assert all((a != b).any() for a, b in zip(now, then, strict=True))
    assert study.prior.days == truth.days > 0
    assert study.prior.id != study.id


def test_a_study_depends_on_seed_split_and_number_only() -> None:
    few = PhantomStory(train_studies=2, val_studies=0, test_studies=0, size_px=64, misleading=0.2, version=1)
    assert list(few.studies("train")) == [study for study, _ in train()[:2]]
    assert few.digest({"seed": 0}) != few.digest({"seed": 1})


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"misleading=1\.5"):
        data(misleading=1.5)
    with pytest.raises(UserError, match="draws version 1"):
        data(version=2)
