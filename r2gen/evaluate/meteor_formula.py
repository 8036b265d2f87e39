"""METEOR 1.5 from its statistics, as the jar computes it (meteor.py)."""

import numpy as np
from numpy.typing import NDArray

# The jar's parameters for English: weights of recall and of content words, and the fragmentation penalty.
_RECALL, _CONTENT, _PENALTY, _PENALTY_POWER = 0.85, 0.75, 0.6, 0.2
_MATCHERS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase


def meteor_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """METEOR 1.5 for English, as the jar computes it, from its statistics summed over studies: [R, 23] to [R].

    The statistics are: words and function words of both texts; content and function words matched in both texts, for
    each of four matchers; chunks; words matched in both texts (Denkowski and Lavie 2014, with the jar's parameters).
    """
    words, function_words = sums[:, 0:2], sums[:, 2:4]
    matched = np.einsum("rmkt,m,k->rt", sums[:, 4:20].reshape(-1, 4, 2, 2), _MATCHERS, (_CONTENT, 1 - _CONTENT))
    weighted = _CONTENT * (words - function_words) + (1 - _CONTENT) * function_words
    precision, recall = np.divide(matched, weighted, out=np.zeros_like(matched), where=weighted > 0).T
    mean = (1 - _RECALL) * recall + _RECALL * precision
    harmonic = np.divide(precision * recall, mean, out=np.zeros_like(mean), where=mean > 0)
    chunks, both = sums[:, 20], sums[:, 21:23]
    pieces = np.divide(chunks, both.mean(axis=1), out=np.zeros_like(chunks), where=both.sum(axis=1) > 0)
    score: NDArray[np.float64] = harmonic * (1 - _PENALTY * pieces**_PENALTY_POWER)
    return score
