"""The identity of a run counts what decides its weights, and nothing else."""

import copy

import pytest
from composed import composed_plain

from r2gen.config.plain import Plain
from r2gen.config.task_table import OWNED
from r2gen.runs.identity import OFF, differences, identity

PLAIN = composed_plain()
# Groups that do not decide the weights: of logging, of evaluation, and those of single tasks.
NOT_COUNTED = ("logger", "evaluate", "prepare", "compare", "audit", "demo", "given")


def changed(name: str, value: object) -> Plain:
    plain = copy.deepcopy(PLAIN)
    *groups, key = name.split(".")
    node = plain
    for group in groups:
        node = node[group]
    node[key] = value
    return plain


@pytest.mark.parametrize("group", NOT_COUNTED)
def test_a_new_key_of_a_group_that_does_not_decide_the_weights_leaves_the_identity(group: str):
    assert identity(changed(f"{group}.made_up", 1), "data") == identity(PLAIN, "data")


@pytest.mark.parametrize("name", [*OWNED, "run_dir", "hub", "fresh", "trainer.devices", "trainer.workers"])
def test_an_option_of_a_task_or_of_the_process_leaves_the_identity(name: str):
    assert identity(changed(name, {"made_up": 1}), "data") == identity(PLAIN, "data")


@pytest.mark.parametrize("group", [group for group in PLAIN if isinstance(PLAIN[group], dict)])
def test_a_new_key_of_every_other_group_changes_the_identity(group: str):
    if group in (*NOT_COUNTED, "metrics"):
        pytest.skip("a group that does not decide the weights")
    assert identity(changed(f"{group}.made_up", 1), "data") != identity(PLAIN, "data")


def test_lm_compile_null_counts_as_the_false_of_earlier_runs():
    automatic, off, on = (changed("lm.compile", value) for value in (None, False, True))
    assert identity(automatic, "data") == identity(off, "data") != identity(on, "data")
    assert differences(off, automatic, ()) == []
    assert differences(off, on, ()) == ["lm.compile: false -> true"]


@pytest.mark.parametrize(("name", "value"), OFF.items())
def test_an_option_that_came_after_the_first_runs_counts_only_where_it_changes_something(name: str, value: object):
    missing = copy.deepcopy(PLAIN)
    *groups, key = name.split(".")
    node = missing
    for group in groups:
        node = node[group]
    assert node.pop(key) == value
    if not node:  # a group of this option alone
        del missing[groups[0]]
    assert identity(missing, "data") == identity(PLAIN, "data")
    assert identity(changed(name, 0.5), "data") != identity(PLAIN, "data")
    assert differences(missing, PLAIN, ()) == []


def test_the_least_count_of_words_counts_with_a_vocabulary_of_words_only():
    words = changed("lm.vocabulary", "words")
    assert identity(changed("lm.min_count", 9), "data") == identity(PLAIN, "data")
    assert identity({**words, "lm": {**words["lm"], "min_count": 9}}, "data") != identity(words, "data")


def test_a_run_without_context_has_the_identity_of_one_from_before_the_group_existed():
    without_the_group = {name: value for name, value in PLAIN.items() if name not in ("context", "given")}
    assert identity(PLAIN, "data") == identity(without_the_group, "data")
    assert differences(without_the_group, PLAIN, ("given",)) == []
    for option, value in (("max_tokens", 9), ("texts.age", "{text}"), ("missing", {"age": ""})):
        assert identity(changed(f"context.{option}", value), "data") == identity(PLAIN, "data")


def test_the_texts_of_the_fields_in_a_prompt_count():
    context = composed_plain("context=indication")
    texts = context["context"]["texts"]
    other_age, other_indication = (
        {**context, "context": {**context["context"], "texts": texts | {field: "{text}"}}}
        for field in ("age", "indication")
    )
    assert identity(context, "data") == identity(other_age, "data") != identity(PLAIN, "data")
    assert identity(other_indication, "data") != identity(context, "data")
    shown = ["context.fields: [] -> ['indication']", "context.max_tokens: (missing) -> 300"]
    assert differences(PLAIN, context, ())[:2] == shown


def test_the_data_change_the_identity():
    assert identity(PLAIN, "data") != identity(PLAIN, "other data")


def test_another_objective_changes_the_identity_and_the_default_does_not():
    without_the_group = {name: value for name, value in PLAIN.items() if name != "objective"}
    assert identity(PLAIN, "data") == identity(without_the_group, "data")
    assert identity(changed("objective.weight", 1.0), "data") != identity(PLAIN, "data")
    assert identity(changed("trainer.start", "run"), "data") != identity(PLAIN, "data")
