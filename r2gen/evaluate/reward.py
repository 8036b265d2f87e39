"""The reward of single reports for self-critical training: CIDEr, BLEU-4 and F1 of findings, quick for many calls."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from r2gen.evaluate.baselines import ngrams
from r2gen.evaluate.labeler import OBSERVATIONS, Status, label_report

_ORDER = 4
_SIGMA = 6.0  # of CIDEr-D
_Ngram = tuple[str, ...]


@dataclass(frozen=True)
class _Weighted:
    """The TF-IDF vectors of a text, one for each length of n-grams."""

    weight: dict[_Ngram, float]
    norms: tuple[float, ...]
    pairs: int  # the length of a text in pycocoevalcap's CIDEr is its number of bigrams


class CiderReward:
    """CIDEr-D of a report against its reference, with the document frequencies of all training references.

    It equals pycocoevalcap's value for a report among as many reports as there are references.
    """

    def __init__(self, references: Mapping[str, str]) -> None:
        self._references = references
        counts = Counter(ngram for text in references.values() for ngram in ngrams(text.split()))
        # An n-gram of no reference has the weight of one in a single reference, so that those need no memory.
        self._studies_with = {ngram: count for ngram, count in counts.items() if count > 1}
        self._log_studies = math.log(max(1, len(references)))

    def __call__(self, id: str, report: str) -> float:
        own, reference = self._weighted(report), self._weighted(self._references[id])
        dots = [0.0] * _ORDER
        for ngram, weight in own.weight.items():
            expected = reference.weight.get(ngram)
            if expected is not None:
                dots[len(ngram) - 1] += min(weight, expected) * expected
        norms = [first * second for first, second in zip(own.norms, reference.norms, strict=True)]
        cosines = [dot / norm if norm else 0.0 for dot, norm in zip(dots, norms, strict=True)]
        penalty = math.exp(-((own.pairs - reference.pairs) ** 2) / (2 * _SIGMA**2))
        return 10 * penalty * sum(cosines) / _ORDER

    def _weighted(self, text: str) -> _Weighted:
        weight, squares, pairs = {}, [0.0] * _ORDER, 0
        for ngram, times in ngrams(text.split()).items():
            value = times * (self._log_studies - math.log(self._studies_with.get(ngram, 1)))
            weight[ngram] = value
            squares[len(ngram) - 1] += value * value
            pairs += times * (len(ngram) == 2)
        return _Weighted(weight, tuple(map(math.sqrt, squares)), pairs)


def bleu_4(report: str, reference: str) -> float:
    """BLEU-4 of one report, with 1 added to the counts of n-grams longer than a word (Lin and Och, 2004)."""
    written, expected = report.split(), reference.split()
    if not written:
        return 0.0
    own, of_reference = ngrams(written), ngrams(expected)
    right, total = [0] * _ORDER, [max(len(written) - shorter, 0) for shorter in range(_ORDER)]
    for ngram, times in own.items():
        right[len(ngram) - 1] += min(times, of_reference[ngram])
    if not right[0]:
        return 0.0
    precisions = [right[0] / total[0], *((right[n] + 1) / (total[n] + 1) for n in range(1, _ORDER))]
    return math.prod(precisions) ** (1 / _ORDER) * math.exp(min(0.0, 1 - len(expected) / len(written)))


def findings_f1(report: str, reference: str) -> float:
    """F1 of the labeler's 14 observations in one report; 1 if neither text states one.

    "No Finding" is one of them, so that a normal report is right for a normal study. Uncertain mentions count as
    positive.
    """
    stated, true = _findings(report), _findings(reference)
    return 2 * len(stated & true) / (len(stated) + len(true)) if stated or true else 1.0


@lru_cache(maxsize=2**16)
def _findings(report: str) -> frozenset[str]:
    status = label_report(report).status
    return frozenset(name for name in OBSERVATIONS if status.get(name) in (Status.POSITIVE, Status.UNCERTAIN))


class Reward:
    """The weighted sum of the scores of a report. Scores of weight 0 are not computed."""

    def __init__(self, references: Mapping[str, str], *, cider: float, findings: float, bleu_4: float) -> None:
        self.references, self.weights = references, {"cider": cider, "findings": findings, "bleu_4": bleu_4}
        self._cider = CiderReward(references) if cider else None

    def __call__(self, ids: Sequence[str], reports: Sequence[str]) -> list[float]:
        return [self._of_report(id, report) for id, report in zip(ids, reports, strict=True)]

    def _of_report(self, id: str, report: str) -> float:
        reference, reward = self.references[id], 0.0
        if self._cider is not None:
            reward += self.weights["cider"] * self._cider(id, report)
        if self.weights["findings"]:
            reward += self.weights["findings"] * findings_f1(report, reference)
        if self.weights["bleu_4"]:
            reward += self.weights["bleu_4"] * bleu_4(report, reference)
        return reward
