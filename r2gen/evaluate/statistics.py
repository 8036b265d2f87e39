"""Uncertainty of scores: bootstrap intervals over studies, paired tests between systems, means over seeds.

Studies are resampled, each with all its scores. Intervals are bias-corrected and accelerated (BCa, Efron 1987); the
paired randomisation test (Noreen 1989) swaps two systems' reports of a study; p values are corrected as in Holm (1979).
`benchmarks/bootstrap_coverage.py` measures coverage and power. The same seed gives the same numbers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from r2gen.errors import UserError
from r2gen.evaluate.study_sums import Floats, StudySums

RESAMPLES = 10_000
LEVEL = 0.95
_DRAWN_AT_ONCE = 2_000_000  # studies, which take 50 MB
_MOST_STORED = 50_000_000  # studies drawn by all resamples, which take 100 MB
_ROUNDING = 1e-12  # differences closer than this are equal, since the order of summing changes the last digits
_NORMAL = NormalDist()

# S studies, K sums, R resamples, N scores


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval. A single study or seed has no ends, since it does not show any variance."""

    value: float
    low: float | None
    high: float | None
    draws: int  # resamples in which the score has a value, or seeds; 0: the metric has no sums


@dataclass(frozen=True)
class Pair:
    """Two systems compared in one score. `p` is of the randomisation test, `p_holm` corrected for all pairs."""

    score: str
    first: str
    second: str
    difference: Interval  # second - first, with the interval of a paired bootstrap
    p: float
    p_holm: float

    @property
    def within_noise(self) -> bool:
        return self.p_holm >= 1 - LEVEL


def bootstrap(scores: Sequence[StudySums], *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Score name to its value and interval. All scores use the same resamples of studies.

    A score without a value on all studies is left out. A resample in which a score has no value (no reference states
    the finding) does not count. Raises UserError if the scores are of different studies.
    """
    return bootstrap_each({"": scores}, seed=seed, resamples=resamples)[""]


def bootstrap_each(
    systems: Mapping[str, Sequence[StudySums]], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, dict[str, Interval]]:
    """`bootstrap` of each system, with the same resamples for all."""
    intervals: dict[str, dict[str, Interval]] = {system: {} for system in systems}
    owned = [(system, sums) for system, scores in systems.items() for sums in scores]
    scores = [sums for _, sums in owned]
    if not scores:
        return intervals
    _check_same_studies(scores)
    drawn = _split(_resampled(_side_by_side(scores), seed, resamples), scores)
    for (system, sums), sums_RK in zip(owned, drawn, strict=True):
        values_RN, without_SN = sums.values(sums_RK), sums.without_each()
        for column, (score, value) in enumerate(zip(sums.names, sums.of_all(), strict=True)):
            if not math.isnan(value):
                intervals[system][score] = _interval(value, values_RN[:, column], without_SN[:, column])
    return intervals


def compare(systems: Mapping[str, Sequence[StudySums]], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Pair]:
    """Every pair of systems in every score that both have, with Holm's correction over the pairs of a score.

    Raises UserError if the systems were not scored on the same studies.
    """
    scores = [sums for of_system in systems.values() for sums in of_system]
    if len(systems) < 2 or not scores:
        return []
    _check_same_studies(scores)
    sums_SK = _side_by_side(scores)
    drawn = iter(
        zip(
            _split(_resampled(sums_SK, seed, resamples), scores),
            _split(_swapped(sums_SK, seed, resamples), scores),
            strict=True,
        )
    )
    by_system = {
        system: {sums.names: _Drawn(sums, *next(drawn)) for sums in of_system} for system, of_system in systems.items()
    }
    pairs = [
        replace(pair, first=first, second=second)
        for first, second in combinations(systems, 2)
        for names in by_system[first]
        if names in by_system[second]
        for pair in _pairs(by_system[first][names], by_system[second][names])
    ]
    corrected = {}
    for score in dict.fromkeys(pair.score for pair in pairs):
        of_score = [pair for pair in pairs if pair.score == score]
        for pair, p in zip(of_score, holm([pair.p for pair in of_score]), strict=True):
            corrected[score, pair.first, pair.second] = replace(pair, p_holm=p)
    return [corrected[pair.score, pair.first, pair.second] for pair in pairs]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p of several tests. With a limit of .05, any of them is wrong in at most 5 % of cases."""
    adjusted, highest = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def join_seeds(values: Sequence[float]) -> Interval:
    """The mean of a score over training seeds, with Student's interval over the seeds (not over studies)."""
    if not values or not all(map(math.isfinite, values)):
        raise UserError(f"a mean over seeds needs one finite value per seed, not {list(values)}")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(value=mean, low=None, high=None, draws=1)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = student_quantile(len(values) - 1) * error
    return Interval(value=mean, low=mean - half, high=mean + half, draws=len(values))


def student_quantile(degrees: int) -> float:
    """The t within which 95 % of Student's distribution are, by bisection of Abramowitz and Stegun 26.7.3."""
    low, high = 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, degrees) < LEVEL else (low, middle)
    return high


class _Drawn:
    """Scores of one system over all studies, all but one, and every resample; and the sums that swaps move."""

    def __init__(self, sums: StudySums, resampled_RK: Floats, swapped_RK: Floats) -> None:
        self.sums, self.swapped_RK = sums, swapped_RK
        self.all_N, self.without_SN, self.resampled_RN = sums.of_all(), sums.without_each(), sums.values(resampled_RK)


def _pairs(first: _Drawn, second: _Drawn) -> Iterator[Pair]:
    """The differences of two systems, not named yet, in each score of which both have a value."""
    moved_RK = second.swapped_RK - first.swapped_RK
    swapped = [
        drawn.sums.values(drawn.sums.sums.sum(axis=0) + sign * moved_RK) for drawn, sign in ((first, 1), (second, -1))
    ]
    swapped_RN = swapped[1] - swapped[0]
    for column, score in enumerate(first.sums.names):
        difference = second.all_N[column] - first.all_N[column]
        if not math.isnan(difference):
            extreme = np.sum(~(np.abs(swapped_RN[:, column]) < abs(difference) - _ROUNDING))
            p = float(1 + extreme) / (1 + len(swapped_RN))
            drawn_R = second.resampled_RN[:, column] - first.resampled_RN[:, column]
            interval = _interval(difference, drawn_R, second.without_SN[:, column] - first.without_SN[:, column])
            yield Pair(score=score, first="", second="", difference=interval, p=p, p_holm=p)


def _interval(value: float, drawn_R: Floats, without_S: Floats) -> Interval:
    """The BCa interval, from the values of resamples, and of all studies but one, which give the acceleration."""
    values = drawn_R[~np.isnan(drawn_R)]
    if len(without_S) == 1:
        return Interval(value=float(value), low=None, high=None, draws=len(values))
    below = np.mean(values < value - _ROUNDING) + np.mean(np.abs(values - value) <= _ROUNDING) / 2
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values))))
    influences = without_S[~np.isnan(without_S)]
    influences = influences.mean() - influences
    squares = float(np.sum(influences**2))
    acceleration = float(np.sum(influences**3)) / (6 * squares**1.5) if squares > _ROUNDING**2 else 0.0
    ends = [bias + _NORMAL.inv_cdf(tail) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    quantiles = [_NORMAL.cdf(bias + end / max(1 - acceleration * end, _ROUNDING)) for end in ends]
    low, high = np.quantile(values, quantiles)
    return Interval(value=float(value), low=float(low), high=float(high), draws=len(values))


def _resampled(sums_SK: Floats, seed: int, resamples: int) -> Floats:
    """The sums of R resamples with replacement, [R, K]."""
    studies = len(sums_SK)
    drawn = _stored_draws if resamples * studies <= _MOST_STORED else _draws
    return np.concatenate([times.astype(np.float64) @ sums_SK for times in drawn(studies, seed, resamples)])


def _draws(studies: int, seed: int, resamples: int) -> Iterator[NDArray[np.unsignedinteger]]:
    """How often each resample draws each study, some resamples at once."""
    generator = np.random.default_rng(seed)
    for rows in _portions(resamples, studies):
        cells = generator.integers(studies, size=(rows, studies)) + np.arange(rows)[:, None] * studies
        yield np.bincount(cells.ravel(), minlength=rows * studies).reshape(rows, studies).astype(np.uint16)


@lru_cache(maxsize=1)
def _stored_draws(studies: int, seed: int, resamples: int) -> tuple[NDArray[np.unsignedinteger], ...]:
    """The draws, kept since intervals and tests of a split use the same ones."""
    return tuple(_draws(studies, seed, resamples))


def _swapped(sums_SK: Floats, seed: int, resamples: int) -> Floats:
    """The sums of the studies that each of R permutations swaps, [R, K]. Every study is swapped with probability .5."""
    generator = np.random.default_rng([seed, 1])
    return np.concatenate(
        [
            generator.integers(2, size=(rows, len(sums_SK)), dtype=np.int8).astype(np.float64) @ sums_SK
            for rows in _portions(resamples, len(sums_SK))
        ]
    )


def _portions(resamples: int, studies: int) -> Iterator[int]:
    at_once = max(1, _DRAWN_AT_ONCE // studies)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _side_by_side(scores: Sequence[StudySums]) -> Floats:
    return np.concatenate([sums.sums for sums in scores], axis=1)


def _split(sums_RK: Floats, scores: Sequence[StudySums]) -> list[Floats]:
    ends = np.cumsum([sums.sums.shape[1] for sums in scores])[:-1]
    return list(np.split(sums_RK, ends, axis=1))


def _check_same_studies(scores: Sequence[StudySums]) -> None:
    if any(sums.ids != scores[0].ids for sums in scores):
        raise UserError("scores can be resampled together only on the same studies, and their ids differ")
    if not scores[0].ids:
        raise UserError("there is no study to resample")


def student_within(t: float, degrees: int) -> float:
    """The probability that Student's t is between -t and t."""
    angle = math.atan(t / math.sqrt(degrees))
    term, total = (math.cos(angle), 0.0) if degrees % 2 else (1.0, 0.0)
    for power in range(1 if degrees % 2 else 0, degrees - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    if degrees % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
