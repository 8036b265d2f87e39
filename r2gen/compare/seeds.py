"""Means over runs that differ in their seed alone, and differences between such configurations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, takewhile

from r2gen.compare.comparison import JoinedPair, JoinedSeeds
from r2gen.compare.source import Source
from r2gen.config.plain import canonical
from r2gen.evaluate.statistics import holm, join_seeds, student_within

Corpus = Mapping[str, Mapping[str, float]]  # by system and score


def joined_seeds(sources: Sequence[Source], corpus: Corpus) -> tuple[tuple[JoinedSeeds, ...], tuple[str, ...]]:
    """The means over the seeds of each configuration, and notes on configurations that have a seed twice."""
    joined, notes, names = list[JoinedSeeds](), list[str](), {source.name for source in sources}
    for seeds in _seeds_of_configurations(sources):
        if len(set(seeds.values())) < len(seeds):
            notes.append(f"{', '.join(seeds)} are one configuration and some have the same seed: no mean over seeds")
        elif len(seeds) > 1:
            joined_seeds = _joined(seeds, corpus, names)
            names.add(joined_seeds.name)
            joined.append(joined_seeds)
    return tuple(joined), tuple(notes)


def _seeds_of_configurations(sources: Sequence[Source]) -> list[dict[str, int]]:
    """For each configuration the seed of each of its runs, by name."""
    seeds: dict[str, dict[str, int]] = {}
    for source in sources:
        if source.stored is not None and source.stored.seed is not None:
            configuration = canonical([source.stored.without_seed, source.recipe, source.about.get("decoding")])
            seeds.setdefault(configuration, {})[source.name] = source.stored.seed
    return list(seeds.values())


def _joined(seeds: Mapping[str, int], corpus: Corpus, names: set[str]) -> JoinedSeeds:
    """The mean of the runs in `seeds`, named by the common prefix of their names unless it is in `names`."""
    runs = sorted(seeds, key=seeds.__getitem__)
    scores = [score for score in corpus[runs[0]] if all(score in corpus[run] for run in runs)]
    name = _common_prefix(runs).rstrip(" -_.")
    return JoinedSeeds(
        name=" + ".join(runs) if not name or name in names else name,
        systems=tuple(runs),
        seeds=tuple(seeds[run] for run in runs),
        scores={score: join_seeds([corpus[run][score] for run in runs]) for score in scores},
    )


def _common_prefix(names: Sequence[str]) -> str:
    columns = zip(*names, strict=False)
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, columns))


def joined_pairs(joined: Sequence[JoinedSeeds], corpus: Corpus) -> tuple[JoinedPair, ...]:
    """The differences of every two configurations with at least two common seeds.

    A difference is the mean over these seeds, with Student's interval and p, corrected over all pairs in a score.
    """
    pairs = [pair for first, second in combinations(joined, 2) for pair in _pairs(first, second, corpus)]
    for score in dict.fromkeys(pair.score for pair in pairs):
        indices = [index for index, pair in enumerate(pairs) if pair.score == score]
        for index, p in zip(indices, holm([pairs[index].p for index in indices]), strict=True):
            pairs[index] = replace(pairs[index], p_holm=p)
    return tuple(pairs)


def _pairs(first: JoinedSeeds, second: JoinedSeeds, corpus: Corpus) -> list[JoinedPair]:
    """The differences of two configurations in every score that both have, not yet corrected."""
    of_first, of_second = (
        dict(zip(configuration.seeds, configuration.systems, strict=True)) for configuration in (first, second)
    )
    seeds = tuple(seed for seed in of_first if seed in of_second)
    if len(seeds) < 2:
        return []
    pairs = []
    for score in first.scores:
        if score in second.scores:
            differences = [corpus[of_second[seed]][score] - corpus[of_first[seed]][score] for seed in seeds]
            p = _student_p(differences)
            pairs.append(
                JoinedPair(
                    score=score,
                    first=first.name,
                    second=second.name,
                    seeds=seeds,
                    difference=join_seeds(differences),
                    p=p,
                    p_holm=p,
                )
            )
    return pairs


def _student_p(differences: Sequence[float]) -> float:
    """The two-sided p of Student's paired test."""
    mean = math.fsum(differences) / len(differences)
    squares = math.fsum((difference - mean) ** 2 for difference in differences)
    if squares == 0:
        return float(mean == 0)
    t = abs(mean) / math.sqrt(squares / (len(differences) - 1) / len(differences))
    return max(0.0, 1 - student_within(t, len(differences) - 1))
