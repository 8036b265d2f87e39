"""The wording of reports: how many differ, copy training reports, or repeat themselves.

A model that ignores the images shows here first, since it writes few different reports.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from r2gen.config.plain import Plain

_ORDER = 4  # words of an n-gram


@dataclass(frozen=True)
class Wording:
    """Figures of the reports of one split. White space does not count when reports are compared."""

    distinct: int  # number of different reports
    distinct_rate: float  # share of different reports
    copied_rate: float  # share of reports that equal a training report word for word
    mean_words: float
    repeated_rate: float  # share of 4-grams that occur earlier in the same report


def wording(reports: Collection[str], train: Iterable[str]) -> Wording:
    """The wording of at least one report. An empty report has no words, repeats nothing and is no copy."""
    training = {" ".join(report.split()) for report in train}
    words_of = [report.split() for report in reports]
    texts = [" ".join(words) for words in words_of]
    ngrams_of = [
        [tuple(words[start : start + _ORDER]) for start in range(len(words) - _ORDER + 1)] for words in words_of
    ]
    total = sum(map(len, ngrams_of))
    return Wording(
        distinct=len(set(texts)),
        distinct_rate=len(set(texts)) / len(texts),
        copied_rate=sum(text in training for text in texts) / len(texts),
        mean_words=sum(map(len, words_of)) / len(words_of),
        repeated_rate=1 - sum(len(set(ngrams)) for ngrams in ngrams_of) / total if total else 0.0,
    )


def wording_entry(reports: Mapping[str, str], references: Mapping[str, str], train: Collection[str]) -> Plain:
    """The wording of the model's reports and, for comparison, of the references, as metrics.json has it."""
    texts = {" ".join(text.split()) for text in (*reports.values(), *references.values())}
    copied = texts.intersection(" ".join(report.split()) for report in train)  # once, since they may be 200,000
    return {
        "model": asdict(wording(reports.values(), copied)),
        "references": asdict(wording(references.values(), copied)),
    }


def wording_line(entry: Mapping[str, Any] | None) -> str:
    """A line below a table: the wording of the model's reports, with the references' in brackets.

    Empty without an entry.
    """
    if entry is None:
        return ""
    model, references = entry["model"], entry["references"]
    return (
        f"\nreports (references): {model['distinct']} ({references['distinct']}) different; "
        f"{model['copied_rate']:.1%} ({references['copied_rate']:.1%}) copies of training reports; "
        f"{model['mean_words']:.1f} ({references['mean_words']:.1f}) words; "
        f"{model['repeated_rate']:.1%} ({references['repeated_rate']:.1%}) of 4-grams repeated"
    )
