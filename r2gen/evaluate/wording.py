"""How reports are worded, whatever they say: a model that ignores the images is seen here first. Imports no torch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_ORDER = 4  # words that make a repetition


@dataclass(frozen=True)
class Wording:
    """Of the reports of one split. Reports are compared word by word; white space does not count."""

    distinct: int  # how many different reports there are
    distinct_rate: float  # divided by the number of reports
    copied_rate: float  # share that is, word for word, a report of the training split
    mean_words: float
    repeated_rate: float  # of all four words in a row, the share that stood in the same report before


def wording(reports: Collection[str], train: Iterable[str]) -> Wording:
    """Of at least one report. An empty report has no words, repeats nothing and is no copy."""
    known = {" ".join(report.split()) for report in train}
    texts = [report.split() for report in reports]
    joined = [" ".join(words) for words in texts]
    runs = [[tuple(words[start : start + _ORDER]) for start in range(len(words) - _ORDER + 1)] for words in texts]
    all_runs = sum(map(len, runs))
    return Wording(
        distinct=len(set(joined)),
        distinct_rate=len(set(joined)) / len(joined),
        copied_rate=sum(text in known for text in joined) / len(joined),
        mean_words=sum(map(len, texts)) / len(texts),
        repeated_rate=1 - sum(len(set(one)) for one in runs) / all_runs if all_runs else 0.0,
    )


def wording_entry(reports: Mapping[str, str], references: Mapping[str, str], train: Collection[str]) -> dict[str, Any]:
    """The model's and, to compare with, the references' own, for metrics.json."""
    return {
        "model": asdict(wording(reports.values(), train)),
        "references": asdict(wording(references.values(), train)),
    }


def wording_line(found: Mapping[str, Any] | None) -> str:
    """The model's wording and, in brackets, the references', as a line below a table; nothing without it."""
    if found is None:
        return ""
    model, own = found["model"], found["references"]
    return (
        f"\nreports (references): {model['distinct']} ({own['distinct']}) different; "
        f"{model['copied_rate']:.1%} ({own['copied_rate']:.1%}) copies of training; "
        f"{model['mean_words']:.1f} ({own['mean_words']:.1f}) words; "
        f"{model['repeated_rate']:.1%} ({own['repeated_rate']:.1%}) of 4-grams repeated"
    )
