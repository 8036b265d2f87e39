"""Facts of stored configurations, also of earlier versions or edited by hand."""

from typing import Any

import pytest

from r2gen.compare.stored import stored_configuration

WRITTEN: dict[str, Any] = {
    "seed": 1,
    "choices": {"lm": "tiny"},
    "data": {"_target_": "r2gen.data.phantom.Phantom", "root": "/here"},
    "metrics": {"bleu": {"_target_": "r2gen.evaluate.nlg.Bleu"}},
    "evaluate": {"nearest_studies": 20, "batch_size": 4},
    "trainer": {"epochs": 3},
}


def test_a_configuration_is_read_with_its_facts():
    stored = stored_configuration(WRITTEN)
    assert (stored.seed, stored.nearest_studies) == (1, 20)
    assert (stored.choices, stored.data, stored.metrics) == (WRITTEN["choices"], WRITTEN["data"], WRITTEN["metrics"])


@pytest.mark.parametrize("change", [{"seed": 2}, {"metrics": {}}, {"evaluate": {"batch_size": 8}}, {"task": "train"}])
def test_seed_metrics_and_process_options_do_not_make_another_configuration(change: dict[str, Any]):
    assert stored_configuration(WRITTEN | change).without_seed == stored_configuration(WRITTEN).without_seed


def test_another_option_is_another_configuration():
    other = stored_configuration(WRITTEN | {"trainer": {"epochs": 4}})
    assert other.without_seed != stored_configuration(WRITTEN).without_seed


def test_missing_facts_and_facts_of_another_type_are_none_or_empty():
    stored = stored_configuration({"choices": {}, "data": {}, "seed": "one", "evaluate": {"nearest_studies": None}})
    assert (stored.seed, stored.nearest_studies, stored.metrics) == (None, None, {})
