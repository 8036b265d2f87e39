"""Studies with an input withheld, or with that of another patient."""

import pytest

from r2gen.config.context import FIELDS, ContextConfig
from r2gen.config.drop import DROPS, check
from r2gen.data.phantom_story import STORY_VERSION, PhantomStory
from r2gen.data.reports import Study
from r2gen.data.withheld import dropped
from r2gen.errors import UserError

STUDIES = list(
    PhantomStory(train_studies=60, val_studies=0, test_studies=0, size_px=64, version=STORY_VERSION).studies("train")
)


def of_context(*fields: str) -> ContextConfig:
    return ContextConfig(fields=list(fields), texts={}, missing={}, image_embeddings=False, max_tokens=100)


@pytest.mark.parametrize("drop", DROPS)
def test_what_is_scored_stays_the_same(drop: str) -> None:
    studies = dropped(STUDIES, drop)
    for study, before in zip(studies, STUDIES, strict=True):
        assert (study.id, study.report, study.findings) == (before.id, before.report, before.findings)
        assert len(study.views) == len(study.positions) > 0
    assert studies == dropped(STUDIES, drop)


def test_a_withheld_prior_takes_the_comparison_with_it() -> None:
    for study, before in zip(dropped(STUDIES, "prior"), STUDIES, strict=True):
        assert study.prior is None
        assert study.comparison is None or before.prior is None
        assert (study.indication, study.views) == (before.indication, before.views)


def test_the_lateral_image_is_withheld_where_another_remains() -> None:
    for study, before in zip(dropped(STUDIES, "lateral"), STUDIES, strict=True):
        assert study.views == before.views[:1]
        assert study.positions == before.positions[:1]
    alone = Study("a", ("x",), "text", positions=("LATERAL",))
    unknown = Study("b", ("x", "y"), "text")
    assert dropped([alone, unknown], "lateral") == [alone, unknown]


@pytest.mark.parametrize("name", ["prior", "indication", "lateral"])
def test_inputs_are_exchanged_among_those_that_have_them(name: str) -> None:
    def value(study: Study) -> object:
        return {"prior": study.prior, "indication": study.indication, "lateral": study.views[1:]}[name]

    studies = dropped(STUDIES, f"other_{name}")
    assert sorted(map(str, map(value, studies))) == sorted(map(str, map(value, STUDIES)))
    for study, before in zip(studies, STUDIES, strict=True):
        assert bool(value(study)) == bool(value(before))
        assert name == "indication" or not value(before) or value(study) != value(before)


def test_one_study_has_no_other_patient() -> None:
    with_prior = next(study for study in STUDIES if study.prior)
    assert dropped([with_prior], "other_prior") == [with_prior]


@pytest.mark.parametrize(
    ("drops", "message"),
    [
        (["priors"], "evaluate.drop=priors: not an input.*did you mean prior"),
        (["prior"], "evaluate.drop=prior: this model does not read it .*prior_images"),
        (["other_indication"], "evaluate.drop=other_indication: this model does not read it"),
        (["lateral", "lateral"], "name each input once"),
    ],
)
def test_inputs_that_a_model_does_not_read_are_refused(drops: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(drops, of_context("age"))
    check(["lateral", "other_lateral"], of_context())
    check(DROPS, of_context(*FIELDS))
