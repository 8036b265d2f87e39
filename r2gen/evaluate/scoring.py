"""Scoring with several metrics, and the checks and signatures that metrics share."""

from collections.abc import Callable, Iterable, Mapping

from r2gen.errors import UserError
from r2gen.evaluate.scores import Metric, Scores, Signature, UnavailableError
from r2gen.evaluate.study_sums import StudySums, means

_NAMED_IN_MESSAGE = 5


def score_reports(
    metrics: Mapping[str, Metric],
    references: Mapping[str, str],
    reports: Mapping[str, str],
    *,
    earlier: Mapping[str, Scores] | None = None,
    begin: Callable[[str], object] | None = None,
) -> Scores:
    """The scores of all metrics together. A metric whose package or weights are missing is listed as unavailable.

    `earlier` has scores that were computed before, by metric; `begin` is called with the name of each metric before it
    is computed. Raises UserError if the ids of the two sides differ, or two metrics give a score of the same name.
    """
    check_texts("scores", references, reports)
    scores = Scores(corpus={})
    earlier = earlier or {}
    for key, metric in metrics.items():
        if begin is not None:
            begin(key)
        of_metric = earlier[key] if key in earlier else score_with(key, metric, references, reports)
        scores = joined_scores(scores, of_metric, metric=key)
    return scores


def score_with(key: str, metric: Metric, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
    """The scores of one metric, or the reason why it is unavailable."""
    try:
        return metric(references, reports)
    except UnavailableError as error:
        return Scores(corpus={}, unavailable={key: str(error)})


def joined_scores(scores: Scores, more: Scores, *, metric: str) -> Scores:
    """The scores together with those of another metric. Raises UserError if both have a score of the same name."""
    common = scores.corpus.keys() & more.corpus.keys()
    if common:
        raise UserError(f"metrics: {metric} gives {named(common)}, as another metric does. Choose one of them.")
    return Scores(
        corpus=scores.corpus | more.corpus,
        per_report=scores.per_report | more.per_report,
        details=scores.details | more.details,
        sums=scores.sums | more.sums,
        signatures=scores.signatures | more.signatures,
        unavailable=scores.unavailable | more.unavailable,
    )


def sums_of_scores(
    metrics: Mapping[str, Metric], references: Mapping[str, str], reports: Mapping[str, str], scores: Scores
) -> list[StudySums]:
    """The sums of every metric that has some; an unavailable metric has none."""
    available = [metric for metric in metrics.values() if metric.name in scores.signatures]
    by_metric = [metric.sums(references, reports, _own(metric, scores)) for metric in available]
    # Means come last, so that intervals equal those on disk: the order of columns decides how sums are rounded.
    return sorted((sums for sums in by_metric if sums is not None), key=lambda sums: sums.values is means)


def _own(metric: Metric, scores: Scores) -> Scores:
    """The scores of one metric among those of all."""
    names = {spec.name for spec in metric.scores}
    return Scores(
        corpus={name: value for name, value in scores.corpus.items() if name in names},
        per_report={name: values for name, values in scores.per_report.items() if name in names},
        sums={name: numbers for name, numbers in scores.sums.items() if name in names},
    )


def check_texts(metric: str, references: Mapping[str, str], reports: Mapping[str, str]) -> None:
    """Raise UserError if an id is missing on one side, if there is no study, or if a reference has no words."""
    if references.keys() != reports.keys():
        raise UserError(
            f"{metric}: the ids of references and reports differ."
            f" Without a report: {named(references.keys() - reports.keys())}."
            f" Without a reference: {named(reports.keys() - references.keys())}."
        )
    if not references:
        raise UserError(f"{metric}: there is no study to score")
    empty = [id for id, reference in references.items() if not reference.strip()]
    if empty:
        raise UserError(f"{metric}: these studies have a reference without words: {named(empty)}")


def signature(*, implementation: str, version: str, tokenizer: str = "space", case: str = "kept") -> Signature:
    """How a metric computes its scores. Which texts it compares is stated by the recipe (recipe.py)."""
    return {
        "implementation": implementation,
        "version": version,
        "tokenizer": tokenizer,
        "case": case,
        "references": "1",
    }


def named(ids: Iterable[str]) -> str:
    """The first five ids for a message, and how many more there are."""
    in_order = sorted(ids)
    more = len(in_order) - _NAMED_IN_MESSAGE
    return ", ".join(in_order[:_NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "") if in_order else "none"
