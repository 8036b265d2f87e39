"""The verdict says whether the model uses the images, and names collapse with what to try."""

from typing import Any

from r2gen.runs.verdict import ADVICE, verdict

SPECS = [
    {"name": "bleu_4", "title": "BLEU-4", "column": 1},
    {"name": "cider", "title": "CIDEr", "column": 7},
    {"name": "recall", "title": "Recall", "column": None},
    {"name": "missing", "title": "Missing words", "column": 9, "higher_is_better": False},
]
COLLAPSED = {"model": {"distinct": 2}, "references": {"distinct": 401}}
VARIED = {"model": {"distinct": 324}, "references": {"distinct": 401}}


def margins(**values: float) -> dict[str, Any]:
    return {name: {"value": value, "within_noise": abs(value) < 0.01} for name, value in values.items()}


def test_a_model_that_writes_two_reports_is_named_with_what_to_try() -> None:
    entry = {
        "studies": 589,
        "wording": COLLAPSED,
        "shuffled_margins": margins(bleu_4=0.001, cider=-0.09),
        "margins": margins(bleu_4=-0.09, cider=0.0, recall=0.5),
    }
    assert verdict(entry, SPECS) == [
        "Nothing shows that the model uses the images: 2 different reports for 589 studies (references: 401); no score "
        "is better, beyond noise, than for its own reports on other patients' images.",
        "Compared with the constant report, 0 of 2 scores are better beyond noise, 1 worse.",
        ADVICE,
    ]


def test_a_model_that_uses_the_images_gets_no_advice() -> None:
    entry = {"studies": 589, "wording": VARIED, "shuffled_margins": margins(cider=0.09, missing=-0.2, bleu_4=0.0)}
    assert verdict(entry, SPECS) == [
        "The model uses the images: 324 different reports for 589 studies (references: 401); 2 of 3 scores are better, "
        "beyond noise, than for its own reports on other patients' images."
    ]


def test_few_different_reports_get_advice_even_if_a_score_is_better() -> None:
    better = {"studies": 589, "shuffled_margins": margins(cider=0.09)}
    assert verdict(better | {"wording": COLLAPSED}, SPECS)[-1] == ADVICE
    assert verdict(better | {"wording": {"model": {"distinct": 1}, "references": {"distinct": 1}}}, SPECS)[-1] != ADVICE


def test_there_is_no_verdict_before_the_baselines_are_scored() -> None:
    assert verdict({"studies": 5, "systems": {"model": {"cider": 1.0}}}, SPECS) == []
