"""Several metrics over one set of reports, and what all metrics check and sign alike."""

from collections.abc import Iterable, Mapping

from r2gen.errors import UserError
from r2gen.evaluate.scores import Metric, Scores, Signature, UnavailableError

_NAMED_IN_MESSAGE = 5


def score_reports(metrics: Mapping[str, Metric], references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
    """All metrics' values in one Scores; a metric whose package or weights are missing is said to be unavailable.

    Raises UserError where the ids of the two sides differ, or two metrics give a score of one name.
    """
    check_texts("scores", references, reports)
    corpus: dict[str, float] = {}
    per_report: dict[str, dict[str, float]] = {}
    details: dict[str, dict[str, dict[str, float | None]]] = {}
    sums: dict[str, dict[str, list[float]]] = {}
    signatures: dict[str, Signature] = {}
    unavailable: dict[str, str] = {}
    for key, metric in metrics.items():
        try:
            scores = metric(references, reports)
        except UnavailableError as error:
            unavailable[key] = str(error)
            continue
        twice = corpus.keys() & scores.corpus.keys()
        if twice:
            raise UserError(f"metrics: {key} gives {named(twice)}, which another metric has given: select one of them")
        corpus |= scores.corpus
        per_report |= scores.per_report
        details |= scores.details
        sums |= scores.sums
        signatures |= scores.signatures
    return Scores(corpus=corpus, per_report=per_report, details=details, sums=sums, signatures=signatures,
                  unavailable=unavailable)  # fmt: skip


def check_texts(metric: str, references: Mapping[str, str], reports: Mapping[str, str]) -> None:
    """Refuse what cannot be scored: ids that one side lacks, no study at all, a reference without a word."""
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
        raise UserError(f"{metric}: these studies have a reference without a word: {named(empty)}")


def signature(*, implementation: str, version: str, tokenizer: str = "space", case: str = "kept") -> Signature:
    """How a score came about, as far as the metric knows; what the texts were is the recipe's (recipe.py)."""
    return {
        "implementation": implementation,
        "version": version,
        "tokenizer": tokenizer,
        "case": case,
        "references": "1",
    }


def named(ids: Iterable[str]) -> str:
    """The ids for a message: the first five, and how many more there are."""
    in_order = sorted(ids)
    more = len(in_order) - _NAMED_IN_MESSAGE
    return ", ".join(in_order[:_NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "") if in_order else "none"
