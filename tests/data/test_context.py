"""What is written into the prompt about a study, and what is cut where it is too long."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from composed import composed
from small_model import TOKENIZER

from r2gen.config.context import FIELDS, ContextConfig, GivenConfig
from r2gen.data.context import AGES, StudyContext, age_of
from r2gen.data.context_counts import counts_line, fields_and_cuts
from r2gen.data.context_text import context_text, in_words, refuse_without_fields, written
from r2gen.data.given import given_study, not_used
from r2gen.data.reports import Prior, Study
from r2gen.errors import UserError
from r2gen.lm.words import train_words

STUDY = Study(
    id="s",
    views=("a", "b"),
    report="",
    positions=("PA", "LATERAL"),
    indication="Cough for ___ days.",
    technique="Two views.",
    comparison="XXXX.",
    age=67.0,
    sex="F",
    prior=Prior(id="p", views=("c",), report="Normal.", days=12.4, positions=("AP",)),
)
NOTHING = Study(id="n", views=("a",), report="")


def options(choice: str, **values: Any) -> ContextConfig:
    return replace(composed(f"context={choice}").context, **values)


def texts(study: Study, choice: str) -> list[str]:
    return [piece.text for piece in written(study, options(choice))]


def context(choice: str, **values: Any) -> StudyContext:
    """One whose token ids are the UTF-8 bytes of the text."""
    return StudyContext(options(choice, **values), lambda text: list(text.encode()))


def decoded(some: StudyContext, study: Study) -> tuple[str, str]:
    tokens = some.tokens(study)
    return bytes(tokens.before).decode(), bytes(tokens.after).decode()


def test_each_choice_writes_its_fields_in_order_and_placeholders_survive():
    indication, prior_images = "Indication: Cough for ___ days.\n", ["Prior images: ", "\n"]
    since = ["Days since the prior study: 12\n", "Prior report: Normal.\n"]
    assert texts(STUDY, "none") == []
    assert texts(STUDY, "indication") == [indication]
    assert texts(STUDY, "indication_prior") == [indication, *prior_images, *since]
    first = ["Age: 67\n", "Sex: female\n", indication, "Technique: Two views.\n", "Comparison: XXXX.\n"]
    assert texts(STUDY, "all") == [*first, *prior_images, *since]
    assert set(options("all").fields) == set(FIELDS)
    images = decoded(context("all"), STUDY)
    assert images == ("".join([*first, prior_images[0]]), "".join(["\n", *since]))


def test_what_a_study_lacks_is_left_out_or_written_as_the_options_say():
    assert texts(NOTHING, "all") == []
    unknown = options("all", missing={"indication": "Indication: not given\n", "prior_images": "No prior study\n"})
    assert [piece.text for piece in written(NOTHING, unknown)] == ["Indication: not given\n", "No prior study\n"]
    assert not context("all").prior_views(NOTHING)
    without_images = replace(STUDY, prior=replace(STUDY.prior, views=()))  # type: ignore[type-var]
    assert decoded(context("all"), without_images)[1] == ""
    assert "Prior report: Normal." in decoded(context("all"), without_images)[0]
    same_day = replace(STUDY, indication=" ", prior=replace(STUDY.prior, days=0.2))  # type: ignore[type-var]
    assert texts(same_day, "indication_prior")[2] == "Days since the prior study: less than 1\n"


def test_a_long_context_is_cut_from_the_oldest():
    whole = len("".join(decoded(context("all"), STUDY)).encode())

    def cut(most: int, **values: Any) -> str:
        some = context("all", max_tokens=most, **values)
        assert some.tokens(STUDY).is_cut == (most < whole)
        before, after = decoded(some, STUDY)
        assert len((before + after).encode()) <= most
        return before + after

    assert cut(whole) == "".join(decoded(context("all"), STUDY))
    assert cut(whole - 1).endswith("Prior report: Normal.")
    assert cut(whole - 5).endswith("Prior report: Nor")
    assert "Prior report" not in cut(whole - 8)  # the label by itself
    assert "Comparison: XXX" in cut(whole - 24)
    shorter = cut(100)
    assert "Comparison" not in shorter
    assert "Indication: Cough" in shorter
    assert cut(17) == "Prior images: \n"  # around the images that stay
    assert cut(1) == "\n"


def test_no_special_token_comes_from_a_study():
    hostile = replace(STUDY, indication="<pad> </s> <s> {text} {context}")
    ids = StudyContext(options("all"), TOKENIZER.encode).tokens(hostile)
    assert not {0, 1, 2} & {*ids.before, *ids.after}
    assert "<pad> </s> <s> {text} {context}" in TOKENIZER.decode(ids.before)


def test_a_vocabulary_of_words_reads_texts_as_it_reads_cleaned_reports():
    prior = Prior("p", (), "no effusion .")
    train = Study("a", ("a.png",), "the heart is large .", indication="55-year-old, COUGH (1.5 weeks).", prior=prior)
    chosen = options("all")
    texts = [train.report, context_text(in_words(train), chosen)]
    tokenizer = train_words(texts, vocabulary_size=100, min_count=1)
    assert "55-year-old , cough ( 1.5 weeks ) ." in texts[1]
    assert texts[1].endswith("Prior report: no effusion .\n")
    new = replace(train, indication="Cough.\n(1.5 Weeks)", technique=None)
    of_words = StudyContext(chosen, tokenizer.encode, words=True)
    ids = of_words.tokens(new)
    assert "cough . ( 1.5 weeks )" in tokenizer.decode([*ids.before, *ids.after])
    assert "cough . ( 1.5 weeks )" in of_words.text(new)
    assert not set(tokenizer.never_ids) & {*ids.before, *ids.after}
    as_it_is = StudyContext(chosen, tokenizer.encode).tokens(new)
    assert set(tokenizer.never_ids) & {*as_it_is.before, *as_it_is.after}


def test_images_have_a_position_and_an_age():
    example = context("all").example(STUDY, torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert example.about_V2.tolist() == [[1, 0], [4, 0]]
    assert example.prior_about_V2 is not None
    assert example.prior_about_V2.tolist() == [[2, age_of(12.4)]]
    ages = [age_of(days) for days in (0.1, 1, 6.9, 7, 30, 365, None)]
    assert ages == [1, 2, 2, 3, 4, 5, 6]
    assert max(ages) == AGES - 1


def test_fields_and_cut_contexts_are_counted():
    counts = fields_and_cuts(context("indication", max_tokens=20), {"train": [STUDY, NOTHING], "val": [NOTHING]})
    assert counts["train"] == {"studies": 2, "indication": 1, "cut": 1}
    line = "context: of 2 training studies 1 have indication; cut to context.max_tokens=20: 1 of 2 train"
    assert counts_line(counts, max_tokens=20) == line
    prior = fields_and_cuts(context("indication_prior"), {"train": [replace(STUDY, prior=None)]})
    line = "1 have indication, none has prior_images, prior_days, prior_report; cut to context.max_tokens=300: none"
    assert counts_line(prior, max_tokens=300).endswith(line)
    refuse_without_fields(options("all"), [NOTHING, STUDY])
    refuse_without_fields(options("none"), [NOTHING])
    with pytest.raises(UserError, match=r"context\.fields=\[indication\]: no training study"):
        refuse_without_fields(options("indication"), [NOTHING])


GIVEN = composed("task=generate", "images=[a.png]").given


def test_what_a_run_does_not_use_is_named():
    given = replace(GIVEN, indication=" A\n cough.", sex="F", positions=["posteroanterior"], prior_report="Normal.")
    study = given_study(1, given)
    assert study.indication == "A cough."  # on one line, as that of an annotation
    assert (study.positions, study.sex, study.prior and study.prior.report) == (("PA",), "F", "Normal.")
    assert not_used(study, options("none")) == (
        "not used, since the run was trained with context=none: indication, sex, prior_report, positions"
    )
    assert not_used(study, options("indication")).endswith("context.fields=[indication]: sex, prior_report, positions")
    assert not_used(study, options("all")) == ""
    assert not_used(given_study(1, GIVEN), options("none")) == ""
    assert given_study(2, replace(GIVEN, positions=["", "LL"])).positions == ("", "LATERAL")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sex": "x"}, "sex=x: give F or M"),
        ({"prior_days": -1.0}, "must be more than 0"),
        ({"prior_days": float("nan")}, "prior_days=nan: give a number"),
        ({"prior_days": 1e12}, "prior_days=1000000000000.0: give at most 47,580"),
        ({"age": "045Y"}, "age=045Y: give a number"),
        ({"age": 131.0}, "age=131.0: give at most 130"),
        ({"indication": 5}, "indication=5: give a text"),
        ({"prior_report": "a\ud800"}, "prior_report='a.ud800': half of a surrogate pair is no character"),
        ({"positions": ["PA"]}, "1 given, of 2 image"),
        (
            {"positions": ["PA", "banana"]},
            r"positions: banana is not known .* PA \(posterioranterior, posteroanterior\)",
        ),
        ({"prior_positions": ["PA"]}, "prior_positions: 1 given, of 0 image"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        given_study(2, GivenConfig(**{**vars(GIVEN), **values}))


INVALID = {
    "unknown field": (["context.fields=[indikation]"], "did you mean indication"),
    "twice": (["context.fields=[age,age]"], "name each field once"),
    "no place for the value": (["context=indication", "context.texts.indication=Why"], "write a text with {text} once"),
    "unknown text": (["+context.texts.name=a"], r"context\.texts: name is no field"),
    "number": (["+context.missing.age=3"], "give a text"),
    "alignment": (["objective=align", "context=all", "trainer.micro_batch_size=2"], "reads no context"),
}


@pytest.mark.parametrize("name", INVALID)
def test_options_that_cannot_be_meant_are_refused(name: str):
    overrides, message = INVALID[name]
    with pytest.raises(UserError, match=message):
        composed(*overrides)
