"""Baselines: reports that ignore the study's images, next to which scores of a model are shown.

The constant report is chosen on the validation split. BLEU-4 and CIDEr of every training report, given to all
validation studies, are computed from postings: for each n-gram the references that contain it, and how often.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2gen.errors import UserError

# (references, reports) -> a number, higher is better
Selection = Callable[[Mapping[str, str], Mapping[str, str]], float]

BASELINES = ("constant", "random", "nearest", "shuffled")
BASELINE_SEED = 0  # of random and shuffled reports
_MOST_CANDIDATES = 2000
_SHORTLIST = 3
_ORDER = 4  # the longest n-gram of BLEU-4 and CIDEr
_CIDER_SIGMA = 6.0

_Ngram = tuple[str, ...]


def constant_report(train: Sequence[str], val: Mapping[str, str], score: Selection) -> str:
    """The training report with the highest score when every validation study gets it.

    All distinct training reports (of more than 2,000, the 2,000 whose words are most common) are ranked by .5 BLEU-4 +
    .5 CIDEr, exactly as the metrics compute them; `score` decides among the first three. The choice is exact for
    R2GenGPT's selection, which is that sum.
    """
    candidates = _most_central(sorted({report for report in train if report.strip()}), list(val.values()))
    if not candidates or not val:
        raise UserError("a constant report needs at least one training report and one validation study")
    constant = ConstantScores(list(val.values()))
    # Of equal candidates the first in the alphabet is ranked higher.
    ranked = sorted(candidates, key=lambda report: -sum(constant.bleu_4_and_cider(report)))
    return max(ranked[:_SHORTLIST], key=lambda report: score(val, {id: report for id in val}))  # noqa: C420 - for mypy


def random_reports(ids: Iterable[str], train: Sequence[str], seed: int) -> dict[str, str]:
    """A random training report for each study. It depends on the seed and the study's id, not on other studies."""
    return {id: random.Random(f"{seed} {id}").choice(train) for id in ids}


def shuffled_reports(reports: Mapping[str, str], seed: int) -> dict[str, str]:
    """The report of another study for each study; a single study keeps its own.

    The score of these reports is what a model reaches by style alone, without the images.
    """
    ids = sorted(reports)
    random.Random(seed).shuffle(ids)
    giver = dict(zip(ids, ids[1:] + ids[:1], strict=True))  # one cycle, so no study gives to itself
    return {id: reports[giver[id]] for id in reports}


@dataclass(frozen=True)
class _Postings:
    """The references that contain an n-gram, and what one occurrence in the report adds to CIDEr's dot products."""

    cells: NDArray[np.int64]  # (n - 1) * studies + study, for every study whose reference contains it
    times: NDArray[np.float64]  # occurrences in each of them
    weight: float  # CIDEr's idf
    worth: NDArray[np.float64]  # times * weight^2


class ConstantScores:
    """Corpus BLEU-4 and CIDEr-D of one report for every study, equal to the values of the metrics."""

    def __init__(self, references: Sequence[str]) -> None:
        self._studies = len(references)
        texts = [reference.split() for reference in references]
        self._words = sum(map(len, texts))
        # The length of a text in pycocoevalcap's CIDEr is its number of bigrams.
        self._pairs = np.array([max(len(words) - 1, 0) for words in texts])
        held: dict[_Ngram, list[tuple[int, int]]] = defaultdict(list)
        for study, words in enumerate(texts):
            for ngram, times in ngrams(words).items():
                held[ngram].append((study, times))
        self._postings = {ngram: self._post(ngram, np.array(counts)) for ngram, counts in held.items()}
        squares = np.zeros(_ORDER * self._studies)
        for posted in self._postings.values():
            squares[posted.cells] += posted.times * posted.worth
        self._norms = np.sqrt(squares).reshape(_ORDER, self._studies)

    def bleu_4_and_cider(self, report: str) -> tuple[float, float]:
        words = report.split()
        right, own_squares = [0.0] * _ORDER, [0.0] * _ORDER
        cells, worth = [np.zeros(0, np.int64)], [np.zeros(0)]
        for ngram, times in ngrams(words).items():
            posted = self._postings.get(ngram)
            if posted is None:
                own_squares[len(ngram) - 1] += (times * math.log(self._studies)) ** 2
                continue
            own_squares[len(ngram) - 1] += (times * posted.weight) ** 2
            clipped = 1.0 if times == 1 else np.minimum(times, posted.times)
            right[len(ngram) - 1] += len(posted.cells) if times == 1 else float(np.sum(clipped))
            cells.append(posted.cells)
            worth.append(posted.worth * clipped)
        dots = np.bincount(np.concatenate(cells), np.concatenate(worth), minlength=_ORDER * self._studies).astype(float)
        own_norms = np.sqrt(np.array(own_squares))[:, None]
        return self._bleu_4(len(words), right), self._cider(len(words), dots.reshape(_ORDER, -1), own_norms)

    def _post(self, ngram: _Ngram, counts: NDArray[np.int64]) -> _Postings:
        weight, times = math.log(self._studies / len(counts)), counts[:, 1].astype(float)
        return _Postings((len(ngram) - 1) * self._studies + counts[:, 0], times, weight, times * weight**2)

    def _bleu_4(self, words: int, right: Sequence[float]) -> float:
        # The two small constants are pycocoevalcap's; they matter for texts shorter than four words.
        guesses = [self._studies * max(0, words - shorter) for shorter in range(_ORDER)]
        precisions = [(matching + 1e-15) / (guess + 1e-9) for matching, guess in zip(right, guesses, strict=True)]
        ratio = (self._studies * words + 1e-15) / (self._words + 1e-9)
        return float(math.prod(precisions) ** (1 / _ORDER) * math.exp(min(0.0, 1 - 1 / ratio)))

    def _cider(self, words: int, dots: NDArray[np.float64], own_norms: NDArray[np.float64]) -> float:
        norms = own_norms * self._norms
        cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms != 0)
        penalty = np.exp(-((max(words - 1, 0) - self._pairs) ** 2) / (2 * _CIDER_SIGMA**2))
        return float(10 * (cosines.mean(axis=0) * penalty).mean())


def ngrams(words: Sequence[str]) -> Counter[_Ngram]:
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, _ORDER + 1)
        for start in range(len(words) - length + 1)
    )


def _most_central(candidates: list[str], references: Sequence[str]) -> list[str]:
    """At most 2,000 candidates: those with the highest F1 of the expected word overlap with a reference."""
    if len(candidates) <= _MOST_CANDIDATES:
        return candidates
    held = Counter(word for reference in references for word in set(reference.split()))
    mean_words = sum(held.values()) / len(references)

    def overlap(report: str) -> float:
        words = set(report.split())
        return 2 * sum(held[word] for word in words) / len(references) / (len(words) + mean_words)

    return sorted(candidates, key=overlap, reverse=True)[:_MOST_CANDIDATES]
