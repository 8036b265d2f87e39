"""Check the intervals and tests of r2gen/evaluate/statistics.py on studies drawn from known populations.

`python benchmarks/bootstrap_coverage.py [SETS]` (2,000 sets of studies, two minutes) prints how often the 95 %
interval contains the true value, and how often two systems of 100 studies are found to differ: equal systems, and
systems of which one is better. There are no texts: a study is its sums (r2gen/evaluate/study_sums.py), which are what
the statistics use.
"""

import sys
from collections.abc import Callable

import numpy as np

from r2gen.evaluate.clinical_findings import Findings, finding_sums
from r2gen.evaluate.labeler import OBSERVATIONS
from r2gen.evaluate.nlg import bleu_sums
from r2gen.evaluate.statistics import bootstrap, compare
from r2gen.evaluate.study_sums import Floats, StudySums, mean_sums

RESAMPLES = 1000
SHOWN = ("skewed_mean", "bleu_1", "bleu_4", "findings_f1_micro_14", "findings_f1_macro_14", "findings_f1_macro_5")


TEXT = {"a": "no effusion ."}
BLEU = bleu_sums({id: [text] for id, text in TEXT.items()}, TEXT)  # for the real function from sums to scores
FINDINGS = finding_sums(Findings(), TEXT, TEXT)
FREQUENCIES = np.geomspace(0.3, 0.08, len(OBSERVATIONS))  # of the findings in references

# Draw n studies of one system of this quality (0 to 1), with the studies' difficulties given.
Draw = Callable[[np.random.Generator, Floats, float], StudySums]


def difficulties(draw: np.random.Generator, studies: int) -> Floats:
    """How hard each study is, for every system alike."""
    return draw.beta(2, 2, size=studies)


def skewed_means(draw: np.random.Generator, hard: Floats, quality: float) -> StudySums:
    """Values like those of CIDEr: most are small, a few are large."""
    values = draw.gamma(0.7, size=len(hard)) * (1.2 - hard) * quality
    ids = [f"{index:05}" for index in range(len(hard))]
    return mean_sums({"skewed_mean": dict(zip(ids, values.tolist(), strict=True))}, ids=ids)


def bleu(draw: np.random.Generator, hard: Floats, quality: float) -> StudySums:
    """Reports of 10 to 60 words; the longer an n-gram, the less often it is correct."""
    references = draw.integers(10, 60, size=len(hard))
    written = np.maximum(4, references + draw.integers(-8, 6, size=len(hard)))
    guesses = np.stack([written - shorter for shorter in range(4)], axis=1)
    right, left = [], guesses[:, 0]
    for length, share in enumerate((0.55, 0.6, 0.65, 0.7)):
        left = draw.binomial(np.minimum(left, guesses[:, length]), share * quality + (1 - hard) * (1 - share) * 0.6)
        right.append(left)
    sums = np.concatenate([np.stack(right, axis=1), guesses, written[:, None], references[:, None]], axis=1)
    return _like(BLEU, sums.astype(np.float64))


def findings(draw: np.random.Generator, hard: Floats, quality: float) -> StudySums:
    """Findings with the frequencies above; the probability that one is reported falls with the study's difficulty."""
    shape = len(hard), len(OBSERVATIONS)
    true = draw.random(shape) < FREQUENCIES
    agreed = draw.random(shape) < quality * (1.1 - 0.4 * hard[:, None])
    stated = (true & agreed) | (~true & (draw.random(shape) < 0.08))
    counts = np.zeros((len(hard), len(OBSERVATIONS) + 1, 3))
    counts[:, :-1] = np.stack([true & stated, stated, true], axis=2)
    return _like(FINDINGS, counts.reshape(len(hard), -1))


def truth(draw_scores: Draw, quality: float) -> dict[str, float]:
    """The scores of the whole population, estimated from a million studies."""
    draw = np.random.default_rng(12345)
    portions = [draw_scores(draw, difficulties(draw, 50_000), quality) for _ in range(20)]
    sums = sum(portion.sums.sum(axis=0) for portion in portions)
    return dict(zip(portions[0].names, portions[0].values(np.array([sums]))[0].tolist(), strict=True))


def _like(real: StudySums, sums: Floats) -> StudySums:
    ids = tuple(f"{index:05}" for index in range(len(sums)))
    return StudySums(names=real.names, ids=ids, sums=sums, values=real.values)


DRAWS = (skewed_means, bleu, findings)


def coverage(draw_scores: Draw, *, studies: int, sets: int, resamples: int) -> dict[str, float]:
    """Score name to the share of simulated sets whose 95 % interval contains the true value."""
    held, true = dict[str, int](), truth(draw_scores, 0.6)
    for seed in range(sets):
        draw = np.random.default_rng([1, studies, seed])
        scores = draw_scores(draw, difficulties(draw, studies), 0.6)
        for name, interval in bootstrap([scores], seed=seed, resamples=resamples).items():
            assert interval.low is not None
            assert interval.high is not None
            held[name] = held.get(name, 0) + (interval.low <= true[name] <= interval.high)
    return {name: count / sets for name, count in held.items()}


def found_to_differ(draw_scores: Draw, *, studies: int, sets: int, better: float, resamples: int) -> dict[str, float]:
    """Score name to the share of simulated sets in which a system of quality .6 + `better` differs from one of .6."""
    counts = dict[str, int]()
    for seed in range(sets):
        draw = np.random.default_rng([2, studies, seed])
        hard = difficulties(draw, studies)
        systems = {"first": [draw_scores(draw, hard, 0.6)], "second": [draw_scores(draw, hard, 0.6 + better)]}
        for pair in compare(systems, seed=seed, resamples=resamples):
            right_way = pair.difference.value > 0 or better == 0
            counts[pair.score] = counts.get(pair.score, 0) + (right_way and not pair.within_noise)
    return {name: count / sets for name, count in counts.items()}


def main(sets: int) -> None:
    columns = {
        **{
            f"covered, {studies}": [coverage(draw, studies=studies, sets=sets, resamples=RESAMPLES) for draw in DRAWS]
            for studies in (50, 100, 590)
        },
        **{
            name: [found_to_differ(draw, studies=100, sets=sets, better=better, resamples=RESAMPLES) for draw in DRAWS]
            for name, better in (("equal, differ", 0.0), ("better, differ", 0.15))
        },
    }
    print(" " * 22 + "".join(f"{column:>15}" for column in columns))
    for name in SHOWN:
        shares = [next(part[name] for part in parts if name in part) for parts in columns.values()]
        print(f"{name:22}" + "".join(f"{share:15.3f}" for share in shares))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
