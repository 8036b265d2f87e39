"""Scores of each data set of a mix (data=mix), as if it had been scored alone."""

from collections.abc import Mapping, Sequence

from r2gen.config.plain import Plain
from r2gen.data.reports import Study
from r2gen.evaluate.baselines import BASELINE_SEED, shuffled_reports
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.split_scores import Reports, Scorer, reports_of


def scores_of_sets(
    scorer: Scorer,
    studies: Sequence[Study],
    predictions: Sequence[Prediction],
    baselines: Mapping[str, Reports],
    *,
    split: str,
) -> Plain:
    """By set: the number of its studies, the scores of all systems, intervals and margins. Empty for one data set.

    The baseline "shuffled" gives a study the model's report for another study of the same set.
    """
    of_set: dict[str, set[str]] = {}
    for study in studies:
        if study.set is not None:
            of_set.setdefault(study.set, set()).add(study.id)
    entries = {}
    for name, ids in sorted(of_set.items()):
        own = [prediction for prediction in predictions if prediction.id in ids]
        reports = {
            baseline: {id: text for id, text in texts.items() if id in ids}
            for baseline, texts in baselines.items()
            if baseline != "shuffled"
        }
        if len(own) > 1:
            reports["shuffled"] = shuffled_reports(reports_of(own), seed=BASELINE_SEED)
        scored = scorer.score(own, reports, title=f"scoring {split} of {name}")
        entry = scorer.entry(scored, statistics=True)
        entries[name] = {key: value for key, value in entry.items() if key != "per_report"}
    return entries
