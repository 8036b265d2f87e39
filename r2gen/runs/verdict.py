"""The verdict on a run: whether its model uses the images, in sentences for the terminal and the page.

The model is compared with its own reports on other patients' images (the baseline "shuffled") and with the constant
report. A gain counts if it is beyond noise: p < .05 in a paired randomisation test, for the shuffled reports with
Holm's correction over the scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

COLLAPSED = 20  # the references have at least so many times as many different reports
ADVICE = (
    "Try, in this order: more epochs; a pretrained encoder (vision.path); for one with random weights, "
    "vision.batch_norm=moving, augment=chest and a higher trainer.learning_rate."
)


def verdict(entry: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences for a split of metrics.json, the most important first; none before the baselines are scored.

    `specs` is score_specs of that file.
    """
    sentences = []
    against_shuffled = entry.get("shuffled_margins") or {}
    if against_shuffled:
        sentences.append(_images(against_shuffled, specs, reports=_reports(entry)))
    if entry.get("margins"):
        sentences.append(_constant(entry["margins"], specs))
    if (against_shuffled and not _beyond_noise(against_shuffled, specs)) or _is_collapsed(entry):
        sentences.append(ADVICE)
    return sentences


def _images(margins: Mapping[str, Any], specs: Sequence[Mapping[str, Any]], *, reports: str) -> str:
    better = _beyond_noise(margins, specs)
    if not better:
        return (
            f"Nothing shows that the model uses the images: {reports}no score is better, beyond noise, than for its "
            "own reports on other patients' images."
        )
    return (
        f"The model uses the images: {reports}{len(better)} of {_scores(margins)} better, beyond noise, than for its "
        "own reports on other patients' images."
    )


def _constant(margins: Mapping[str, Any], specs: Sequence[Mapping[str, Any]]) -> str:
    better, worse = _beyond_noise(margins, specs), _beyond_noise(margins, specs, direction=-1)
    shown = [name for name in margins if _has_column(name, specs)]
    return (
        f"Compared with the constant report, {len(better)} of {_scores(shown)} better beyond noise, {len(worse)} worse."
    )


def _reports(entry: Mapping[str, Any]) -> str:
    """ "2 different reports for 589 studies (references: 401); ", or nothing without that count."""
    if "wording" not in entry:
        return ""
    distinct, of_references = (entry["wording"][side]["distinct"] for side in ("model", "references"))
    return (
        f"{_counted(distinct, 'different report', 'different reports')} for "
        f"{_counted(entry['studies'], 'study', 'studies')} (references: {of_references:,}); "
    )


def _is_collapsed(entry: Mapping[str, Any]) -> bool:
    """Whether the model writes one report, or very few, for studies whose references differ."""
    if "wording" not in entry:
        return False
    distinct, of_references = (entry["wording"][side]["distinct"] for side in ("model", "references"))
    return bool(distinct < of_references and (distinct == 1 or distinct * COLLAPSED <= of_references))


def _beyond_noise(margins: Mapping[str, Any], specs: Sequence[Mapping[str, Any]], direction: int = 1) -> list[str]:
    """The scores in tables that are better beyond noise, or worse with direction -1."""
    lower = {spec["name"] for spec in specs if not spec.get("higher_is_better", True)}
    return [
        name
        for name, margin in margins.items()
        if _has_column(name, specs)
        and not margin["within_noise"]
        and direction * margin["value"] * (-1 if name in lower else 1) > 0
    ]


def _has_column(name: str, specs: Sequence[Mapping[str, Any]]) -> bool:
    return all(spec.get("column", 0) is not None for spec in specs if spec["name"] == name)


def _scores(names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"{_counted(len(names), 'score', 'scores')} {'is' if len(names) == 1 else 'are'}"


def _counted(count: int, single: str, several: str) -> str:
    return f"{count:,} {single if count == 1 else several}"
