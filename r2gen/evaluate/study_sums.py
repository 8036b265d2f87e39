"""Sums over studies: what each study adds to a score, so that the score of any resample can be computed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

# S studies, K sums, R resamples, N scores
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StudySums:
    """Some scores of one system. `values` turns sums over any studies, [R, K], into scores, [R, N]; NaN: no value."""

    names: tuple[str, ...]
    ids: tuple[str, ...]  # sorted, so that a seed draws the same studies for any order of the texts
    sums: Floats  # [S, K]
    values: Callable[[Floats], Floats]

    def of_all(self) -> Floats:
        """The scores over all studies, [N]."""
        scores: Floats = self.values(self.sums.sum(axis=0, keepdims=True))[0]
        return scores

    def corpus(self) -> dict[str, float]:
        """The scores over all studies that have a value."""
        return {name: value for name, value in zip(self.names, self.of_all().tolist(), strict=True) if not isnan(value)}

    def without_each(self) -> Floats:
        """The scores over all studies but one, [S, N]."""
        return self.values(self.sums.sum(axis=0) - self.sums)


def study_sums(
    names: Sequence[str], numbers: Mapping[str, Sequence[float]], values: Callable[[Floats], Floats]
) -> StudySums:
    """The sums of these scores, from the numbers that each study adds."""
    ids = tuple(sorted(numbers))
    sums = np.array([numbers[id] for id in ids], dtype=np.float64)
    return StudySums(names=tuple(names), ids=ids, sums=sums, values=values)


def mean_sums(per_report: Mapping[str, Mapping[str, float]], *, ids: Collection[str]) -> StudySums:
    """The sums of scores that are means over the studies with a value. `per_report` is by score and study id.

    Each score has two sums: of its values, and of their number.
    """
    numbers = {
        id: [number for of_score in per_report.values() for number in (of_score.get(id, 0.0), float(id in of_score))]
        for id in ids
    }
    return study_sums(list(per_report), numbers, means)


def means(sums_RK: Floats) -> Floats:
    """The scores of `mean_sums`."""
    return divide(sums_RK[:, 0::2], sums_RK[:, 1::2])


def of_studies(sums: StudySums, ids: Collection[str]) -> StudySums:
    """The same scores over some of the studies."""
    rows = [row for row, id in enumerate(sums.ids) if id in ids]
    return replace(sums, ids=tuple(sums.ids[row] for row in rows), sums=sums.sums[rows])


def divide(part: Floats, whole: NDArray[np.generic]) -> Floats:
    """The quotient; NaN where the divisor is 0."""
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
    return quotient
