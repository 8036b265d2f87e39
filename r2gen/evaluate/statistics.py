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
class Pair:
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
    return bootstrap_each({"": scores}, seed=seed, resamples=resamples)[""]


def bootstrap_each(
    systems: Mapping[str, Sequence[StudySums]], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, dict[str, Interval]]:
    """`bootstrap` of each system, all on the same resamples, which are drawn once."""
    found: dict[str, dict[str, Interval]] = {name: {} for name in systems}
    owned = [(name, one) for name, scores in systems.items() for one in scores]
    scores = [one for _, one in owned]
    if not scores:
        return found
    _same_ids(scores)
    for (owner, one), sums_RK in zip(owned, _split(_resampled(_beside(scores), seed, resamples), scores), strict=True):
        values_RN, without_SN = one.values(sums_RK), one.without_each()
        for column, (name, value) in enumerate(zip(one.names, one.of_all(), strict=True)):
            if not math.isnan(value):
                found[owner][name] = _interval(value, values_RN[:, column], without_SN[:, column])
    return found


def compare(systems: Mapping[str, Sequence[StudySums]], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Pair]:
    """Every pair of systems in every score that both have, with Holm's correction over a score's pairs.

    Raises UserError where systems were not scored on the same studies.
    """
    scores = [one for of_system in systems.values() for one in of_system]
    if len(systems) < 2 or not scores:
        return []
    _same_ids(scores)
    sums_SK = _beside(scores)
    drawn = iter(
        zip(
            _split(_resampled(sums_SK, seed, resamples), scores),
            _split(_taken(sums_SK, seed, resamples), scores),
            strict=True,
        )
    )
    known = {name: {one.names: _Drawn(one, *next(drawn)) for one in of_system} for name, of_system in systems.items()}
    pairs = [
        replace(one, first=first, second=second)
        for first, second in combinations(systems, 2)
        for names in known[first]
        if names in known[second]
        for one in _pairs(known[first][names], known[second][names])
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


class _Drawn:
    """Scores of one system: over all studies, without each of them, over every resample, and what swaps move."""

    def __init__(self, sums: StudySums, resampled_RK: Floats, taken_RK: Floats) -> None:
        self.sums, self.taken_RK = sums, taken_RK
        self.all_N, self.without_SN, self.resampled_RN = sums.of_all(), sums.without_each(), sums.values(resampled_RK)


def _pairs(one: _Drawn, other: _Drawn) -> Iterator[Pair]:
    """The differences of two systems, which are not named yet, in each score that both have a value in."""
    moved_RK = other.taken_RK - one.taken_RK
    swapped = [
        drawn.sums.values(drawn.sums.sums.sum(axis=0) + sign * moved_RK) for drawn, sign in ((one, 1), (other, -1))
    ]
    swapped_RN = swapped[1] - swapped[0]
    for column, score in enumerate(one.sums.names):
        difference = other.all_N[column] - one.all_N[column]
        if not math.isnan(difference):
            extreme = np.sum(~(np.abs(swapped_RN[:, column]) < abs(difference) - _ROUNDING))
            p = float(1 + extreme) / (1 + len(swapped_RN))
            drawn_R = other.resampled_RN[:, column] - one.resampled_RN[:, column]
            interval = _interval(difference, drawn_R, other.without_SN[:, column] - one.without_SN[:, column])
            yield Pair(score=score, first="", second="", difference=interval, p=p, p_holm=p)


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


def _resampled(sums_SK: Floats, seed: int, resamples: int) -> Floats:
    """The sums of each of R draws of as many studies, with replacement: [R, K]."""
    draw, studies = np.random.default_rng(seed), len(sums_SK)
    parts = []
    for rows in _portions(resamples, studies):
        cells = draw.integers(studies, size=(rows, studies)) + np.arange(rows)[:, None] * studies
        times = np.bincount(cells.ravel(), minlength=rows * studies).reshape(rows, studies)
        parts.append(times.astype(np.float64) @ sums_SK)
    return np.concatenate(parts)


def _taken(sums_SK: Floats, seed: int, resamples: int) -> Floats:
    """The sums of the studies that each of R swaps takes, every study with a chance of one half: [R, K]."""
    draw = np.random.default_rng([seed, 1])
    return np.concatenate(
        [
            draw.integers(2, size=(rows, len(sums_SK)), dtype=np.int8).astype(np.float64) @ sums_SK
            for rows in _portions(resamples, len(sums_SK))
        ]
    )


def _portions(resamples: int, studies: int) -> Iterator[int]:
    at_once = max(1, _DRAWN_AT_ONCE // studies)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _beside(scores: Sequence[StudySums]) -> Floats:
    return np.concatenate([one.sums for one in scores], axis=1)


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
