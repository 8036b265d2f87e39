"""How sure a score is: bootstrap intervals over studies, paired tests between systems, several seeds joined. No torch.

A study is what is drawn, with all its scores together. Intervals are the bootstrap's, bias-corrected and accelerated
(Efron 1987); the paired randomisation test (Noreen 1989) swaps two systems' reports of a study; p are corrected as Holm
(1979) does. `benchmarks/bootstrap_coverage.py` measures what these are worth. One seed gives the same numbers again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np

from r2gen.errors import UserError
from r2gen.evaluate.study_sums import Floats, StudySums

RESAMPLES = 10_000
LEVEL = 0.95
_DRAWN_AT_ONCE = 2_000_000  # studies: 50 MB
_ROUNDING = 1e-12  # a swap that gives the same difference by another order of summing counts as the same
_NORMAL = NormalDist()

# S studies, K sums, R resamples, N scores


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; no ends where one study (or seed) says nothing of the spread."""

    value: float
    low: float | None
    high: float | None
    draws: int  # resamples in which the score has a value; seeds, where seeds are joined


@dataclass(frozen=True)
class Comparison:
    """Two systems in one score. `p` is the randomisation test's, `p_holm` that among all pairs of systems."""

    score: str
    first: str
    second: str
    difference: Interval  # second - first, with the paired bootstrap's interval
    p: float
    p_holm: float

    @property
    def within_noise(self) -> bool:
        return self.p_holm >= 1 - LEVEL


def bootstrap(scores: Sequence[StudySums], *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Score name to its value and interval. All scores see the same resamples of studies.

    A score without a value on all studies is left out; a resample in which it has none (no reference of it states a
    finding) does not count. Raises UserError where scores stand on different studies.
    """
    if not scores:
        return {}
    _same_ids(scores)
    sums_SK = np.concatenate([one.sums for one in scores], axis=1)
    drawn_RK = _resampled(sums_SK, seed=seed, resamples=resamples)
    found = {}
    for one, sums_RK in zip(scores, _split(drawn_RK, scores), strict=True):
        values_RN, without_SN = one.values(sums_RK), one.without_each()
        for column, (name, value) in enumerate(zip(one.names, one.of_all(), strict=True)):
            if not math.isnan(value):
                found[name] = _interval(value, values_RN[:, column], without_SN[:, column])
    return found


def compare(
    systems: Mapping[str, Sequence[StudySums]], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Comparison]:
    """Every pair of systems in every score that both have, with Holm's correction over a score's pairs.

    Raises UserError where systems were not scored on the same studies.
    """
    pairs = [
        one
        for first, second in combinations(systems, 2)
        for one in _pair(first, systems[first], second, systems[second], seed=seed, resamples=resamples)
    ]
    corrected = {}
    for score in dict.fromkeys(one.score for one in pairs):
        of_score = [one for one in pairs if one.score == score]
        for one, p in zip(of_score, holm([one.p for one in of_score]), strict=True):
            corrected[score, one.first, one.second] = replace(one, p_holm=p)
    return [corrected[one.score, one.first, one.second] for one in pairs]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each of several tests: below .05 with any of them wrong in at most 5 % of cases."""
    adjusted, highest = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def join_seeds(values: Sequence[float]) -> Interval:
    """The mean of one score over training seeds, with Student's interval: of seeds, not of studies."""
    if not values or not all(map(math.isfinite, values)):
        raise UserError(f"seeds are joined from one finite value each, not from {list(values)}")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(value=mean, low=None, high=None, draws=1)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = student_quantile(len(values) - 1) * error
    return Interval(value=mean, low=mean - half, high=mean + half, draws=len(values))


def student_quantile(degrees: int) -> float:
    """Where 95 % of Student's t lie within, by halving; closed form of its integral: Abramowitz and Stegun 26.7.3."""
    low, high = 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, degrees) < LEVEL else (low, middle)
    return high


def _pair(
    first: str, of_first: Sequence[StudySums], second: str, of_second: Sequence[StudySums], *, seed: int, resamples: int
) -> Iterator[Comparison]:
    theirs = {one.names: one for one in of_second}
    both = [(one, theirs[one.names]) for one in of_first if one.names in theirs]
    if not both:
        return
    sides = [one for one, _ in both], [other for _, other in both]
    _same_ids([*sides[0], *sides[1]])
    sums_SK = [np.concatenate([one.sums for one in side], axis=1) for side in sides]
    drawn_RK = np.split(_resampled(np.concatenate(sums_SK, axis=1), seed=seed, resamples=resamples), 2, axis=1)
    swapped_RK = _swapped(sums_SK[0], sums_SK[1], seed=seed, resamples=resamples)
    parts = [_split(part, sides[0]) for part in (*drawn_RK, *swapped_RK)]
    for index, (one, other) in enumerate(both):
        values = one.of_all(), other.of_all()
        drawn, swapped = (one.values(parts[start + 1][index]) - one.values(parts[start][index]) for start in (0, 2))
        without_SN = other.without_each() - one.without_each()
        for column, score in enumerate(one.names):
            difference = values[1][column] - values[0][column]
            if not math.isnan(difference):
                extreme = np.sum(~(np.abs(swapped[:, column]) < abs(difference) - _ROUNDING))
                p = float(1 + extreme) / (1 + resamples)
                interval = _interval(difference, drawn[:, column], without_SN[:, column])
                yield Comparison(score=score, first=first, second=second, difference=interval, p=p, p_holm=p)


def _interval(value: float, drawn_R: Floats, without_S: Floats) -> Interval:
    """From the values of resamples, and of all studies without each one (which say how skewed the score is)."""
    known = drawn_R[~np.isnan(drawn_R)]
    if len(without_S) == 1:
        return Interval(value=float(value), low=None, high=None, draws=len(known))
    below = np.mean(known < value - _ROUNDING) + np.mean(np.abs(known - value) <= _ROUNDING) / 2
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(known), 1 - 0.5 / len(known))))
    pulls = without_S[~np.isnan(without_S)]
    pulls = pulls.mean() - pulls
    spread = float(np.sum(pulls**2))
    skew = float(np.sum(pulls**3)) / (6 * spread**1.5) if spread > _ROUNDING**2 else 0.0
    ends = [bias + _NORMAL.inv_cdf(tail) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    shares = [_NORMAL.cdf(bias + end / max(1 - skew * end, _ROUNDING)) for end in ends]
    low, high = np.quantile(known, shares)
    return Interval(value=float(value), low=float(low), high=float(high), draws=len(known))


def _resampled(sums_SK: Floats, *, seed: int, resamples: int) -> Floats:
    """The sums of each of R draws of as many studies, with replacement: [R, K]."""
    draw, studies = np.random.default_rng(seed), len(sums_SK)
    parts = []
    for rows in _portions(resamples, studies):
        cells = draw.integers(studies, size=(rows, studies)) + np.arange(rows)[:, None] * studies
        times = np.bincount(cells.ravel(), minlength=rows * studies).reshape(rows, studies)
        parts.append(times.astype(np.float64) @ sums_SK)
    return np.concatenate(parts)


def _swapped(first_SK: Floats, second_SK: Floats, *, seed: int, resamples: int) -> tuple[Floats, Floats]:
    """The sums of both systems after each of R times every study's reports were swapped or not, by chance."""
    draw, more_SK = np.random.default_rng([seed, 1]), second_SK - first_SK
    moved_RK = np.concatenate([
        draw.integers(2, size=(rows, len(more_SK)), dtype=np.int8).astype(np.float64) @ more_SK
        for rows in _portions(resamples, len(more_SK))
    ])  # fmt: skip
    return first_SK.sum(axis=0) + moved_RK, second_SK.sum(axis=0) - moved_RK


def _portions(resamples: int, studies: int) -> Iterator[int]:
    at_once = max(1, _DRAWN_AT_ONCE // studies)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _split(sums_RK: Floats, scores: Sequence[StudySums]) -> list[Floats]:
    ends = np.cumsum([one.sums.shape[1] for one in scores])[:-1]
    return list(np.split(sums_RK, ends, axis=1))


def _same_ids(scores: Sequence[StudySums]) -> None:
    if any(one.ids != scores[0].ids for one in scores):
        raise UserError("scores are resampled together on the same studies only: their ids differ")
    if not scores[0].ids:
        raise UserError("there is no study to resample")


def student_within(t: float, degrees: int) -> float:
    """The probability that Student's t lies within -t and t."""
    angle = math.atan(t / math.sqrt(degrees))
    term, total = (math.cos(angle), 0.0) if degrees % 2 else (1.0, 0.0)
    for power in range(1 if degrees % 2 else 0, degrees - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    if degrees % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
