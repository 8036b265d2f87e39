"""R2Gen's two report cleaners, rebuilt to give the same strings, oddities included.

Published IU X-Ray and MIMIC-CXR scores are taken on text cleaned this way, so `1.5 cm` becomes `15 cm` and a removed
sign may leave two spaces: to mend either would move every score.
"""

from collections.abc import Callable
from typing import Literal

Cleaner = Literal["iu_xray", "mimic_cxr", "none"]

# In R2Gen's IU pattern a hyphen between ":" and "[" makes a range, so that cleaner also removes < = > @.
_SIGNS = ".,?;*!%^&_+()[]{}\"/\\'"
_IU_SIGNS = str.maketrans("", "", _SIGNS + ":<=>@")
_MIMIC_SIGNS = str.maketrans("", "", _SIGNS)


def clean_report(report: str, cleaner: Cleaner) -> str:
    """The report as R2Gen scores it: lower case, signs removed, sentences set apart by " . " and closed by " ."."""
    return _CLEANERS[cleaner](report)


def is_empty(report: str) -> bool:
    """Whether a report, cleaned or not, says nothing: no letter and no digit."""
    return not any(sign.isalnum() for sign in report)


def _iu_xray(report: str) -> str:
    return _sentences(_unnumbered(_halved(report, "..", times=3)), _IU_SIGNS)


def _mimic_cxr(report: str) -> str:
    report = report.replace("\n", " ")
    for pair, times in (("__", 7), ("  ", 6), ("..", 8)):
        report = _halved(report, pair, times=times)
    return _sentences(_unnumbered(report).replace(":", " :"), _MIMIC_SIGNS)


def _halved(text: str, pair: str, *, times: int) -> str:
    """Runs of one character shortened by halves; R2Gen stops after so many rounds, however long the run."""
    for _ in range(times):
        text = text.replace(pair, pair[0])
    return text


def _unnumbered(text: str) -> str:
    """The text without the numbers of a list up to five. Any "1. " goes, also that of "L1. "."""
    text = text.replace("1. ", "")
    for before in (". ", " "):
        for number in "2345":
            text = text.replace(f"{before}{number}. ", ". ")
    return text


def _sentences(text: str, signs: dict[int, int | None]) -> str:
    # Quotes and slashes go before R2Gen's strip, the other signs after it: "? no" keeps its space, '" no' does not.
    quotes = str.maketrans("", "", "\"/\\'")
    sentences = text.strip().lower().split(". ")
    return " . ".join(sentence.translate(quotes).strip().translate(signs) for sentence in sentences) + " ."


_CLEANERS: dict[Cleaner, Callable[[str], str]] = {"iu_xray": _iu_xray, "mimic_cxr": _mimic_cxr, "none": str.strip}
