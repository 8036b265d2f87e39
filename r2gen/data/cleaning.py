"""R2Gen's two report cleaners, rebuilt to return the same strings, oddities included.

Published IU X-Ray and MIMIC-CXR scores are computed on text cleaned this way. `1.5 cm` becomes `15 cm`, and a removed
character may leave two spaces: correcting either would change every score.
"""

from collections.abc import Callable
from itertools import count
from typing import Literal

Cleaner = Literal["iu_xray", "mimic_cxr", "none"]

# In R2Gen's IU pattern the hyphen between ":" and "[" makes a range, so its cleaner also removes < = > @.
_QUOTES = "\"/\\'"
_PUNCTUATION = ".,?;*!%^&_+()[]{}" + _QUOTES
_IU_PUNCTUATION = str.maketrans("", "", _PUNCTUATION + ":<=>@")
_MIMIC_PUNCTUATION = str.maketrans("", "", _PUNCTUATION)
_NO_QUOTES = str.maketrans("", "", _QUOTES)


def clean_report(report: str, cleaner: Cleaner) -> str:
    """The report as R2Gen scores it: lower case, without punctuation, sentences joined by " . " and ended by " ."."""
    return _CLEANERS[cleaner](report)


def is_empty(report: str) -> bool:
    """Whether a report, cleaned or not, has no letter and no digit."""
    return not any(character.isalnum() for character in report)


def _iu_xray(report: str) -> str:
    return _sentences(_unnumbered(_halved(report, "..", times=3)), _IU_PUNCTUATION)


def _mimic_cxr(report: str) -> str:
    report = report.replace("\n", " ")
    for pair, times in (("__", 7), ("  ", 6), ("..", 8)):
        report = _halved(report, pair, times=times)
    return _sentences(_unnumbered(report).replace(":", " :"), _MIMIC_PUNCTUATION)


def _halved(text: str, pair: str, *, times: int) -> str:
    """The text with every run of one character halved `times` times; as in R2Gen, a long run is not removed."""
    for _ in range(times):
        if pair not in text:
            break
        text = text.replace(pair, pair[0])
    return text


def _unnumbered(text: str) -> str:
    """The text without the list numbers 1 to 5. Every "1. " is removed, also that of "L1. "."""
    text = text.replace("1. ", "")
    numbers = [number for number in "2345" if f" {number}. " in text]
    for before in (". ", " "):
        for number in numbers:
            text = text.replace(f"{before}{number}. ", ". ")
    return text


def _sentences(text: str, punctuation: dict[int, int | None]) -> str:
    # R2Gen removes quotes and slashes before it strips, the rest after it: "? no" keeps its space, '" no' does not.
    text = text.strip().lower()
    sentences = text.split(". ")
    if any(map(text.__contains__, _QUOTES)):
        sentences = [sentence.translate(_NO_QUOTES) for sentence in sentences]
    # One call translates all sentences, joined by a character that is not in the text.
    joint = next(c for c in map(chr, count()) if c not in text and ord(c) not in punctuation)
    return joint.join(map(str.strip, sentences)).translate(punctuation).replace(joint, " . ") + " ."


_CLEANERS: dict[Cleaner, Callable[[str], str]] = {"iu_xray": _iu_xray, "mimic_cxr": _mimic_cxr, "none": str.strip}
