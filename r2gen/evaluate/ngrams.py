"""The n-grams of reports and their references, counted once for BLEU and CIDEr, as arrays.

They are in the order in which pycocoevalcap meets them, so that sums over the n-grams of a text are rounded as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ORDER = 4  # the longest n-gram

Ints = NDArray[np.int64]

# T texts, W words of all texts, G different n-grams of each text


@dataclass(frozen=True)
class NgramCounts:
    """The different n-grams of one length in each text, ordered by text and then by first occurrence."""

    different: int  # n-grams in all texts together: ids are below it
    text_G: Ints
    id_G: Ints
    times_G: Ints
    sorted_G: Ints  # text * different + id, ascending
    sorted_times_G: Ints

    def times_in(self, texts: Ints, ids: Ints) -> Ints:
        """How often each of these n-grams occurs in the text at the same index; 0 in a text below 0."""
        cells = texts * self.different + ids
        index = np.minimum(np.searchsorted(self.sorted_G, cells), len(self.sorted_G) - 1)
        times: Ints = np.where(self.sorted_G[index] == cells, self.sorted_times_G[index], 0)
        return times


@dataclass(frozen=True)
class Corpus:
    """The n-grams of reports, which are texts number 0 to S - 1, and of their references, which follow."""

    words_T: Ints
    references_SR: Ints  # the texts that are the references of a study; -1: it has fewer
    counts: tuple[NgramCounts, ...]  # of n-grams of length 1 to 4; without those that no text has


@lru_cache(maxsize=1)
def corpus_of(references: tuple[tuple[str, ...], ...], reports: tuple[str, ...]) -> Corpus:
    """The n-grams of reports that may have several references each. The last corpus is cached."""
    several = np.array([len(texts) for texts in references])
    references_SR = np.where(np.arange(several.max()) < several[:, None], 0, -1)
    references_SR[references_SR == 0] = len(reports) + np.arange(several.sum())
    texts = [text.split() for text in (*reports, *(text for own in references for text in own))]
    return Corpus(np.array([len(words) for words in texts]), references_SR, _counts(texts))


def _counts(texts: Sequence[Sequence[str]]) -> tuple[NgramCounts, ...]:
    vocabulary: dict[str, int] = {}
    word_W = np.array([vocabulary.setdefault(word, len(vocabulary)) for words in texts for word in words], np.int64)
    text_W = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    id_W, different, counts = word_W, len(vocabulary), []
    for length in range(1, ORDER + 1):
        if length > 1:  # an n-gram is one that is shorter by a word, and the next word
            ids, id_W = np.unique(id_W[:-1] * len(vocabulary) + word_W[length - 1 :], return_inverse=True)
            different = len(ids)
        starts = np.flatnonzero(text_W[: len(id_W)] == text_W[length - 1 :])  # the others begin in the text before
        if not len(starts):
            break
        cells, first, times = np.unique(
            text_W[starts] * different + id_W[starts], return_index=True, return_counts=True
        )
        met = np.argsort(first)
        text_G, id_G = np.divmod(cells[met], different)
        counts.append(NgramCounts(different, text_G, id_G, times[met], cells, times))
    return tuple(counts)
