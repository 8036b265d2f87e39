"""Runs of one configuration with several seeds, joined: what training varies, beside what studies vary.

Imports no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from r2gen.compare.comparison import JoinedPair, JoinedSeeds
from r2gen.compare.source import Source
from r2gen.config.plain import canonical
from r2gen.evaluate.statistics import holm, join_seeds, student_within

Corpus = Mapping[str, Mapping[str, float]]  # system to score to value


def joined_seeds(sources: Sequence[Source], corpus: Corpus) -> tuple[tuple[JoinedSeeds, ...], tuple[str, ...]]:
    """Runs that differ in their seed alone, with the means of the scores that all have; and what was not joined."""
    groups: dict[str, dict[str, int]] = {}  # configuration to run to seed
    for source in sources:
        if source.config is not None and isinstance(source.config.get("seed"), int):
            same = canonical([source.configuration(), source.recipe, source.about.get("decoding")])
            groups.setdefault(same, {})[source.name] = source.config["seed"]
    joined, notes, names = list[JoinedSeeds](), list[str](), {source.name for source in sources}
    for seeds in groups.values():
        if len(set(seeds.values())) < len(seeds):
            notes.append(f"{', '.join(seeds)} are one configuration, some with the same seed: they are not joined")
        elif len(seeds) > 1:
            in_order = sorted(seeds, key=seeds.__getitem__)
            scores = [score for score in corpus[in_order[0]] if all(score in corpus[name] for name in in_order)]
            name = _shared_beginning(in_order)
            if not name or name in names:
                name = " + ".join(in_order)
            names.add(name)
            joined.append(
                JoinedSeeds(
                    name=name,
                    systems=tuple(in_order),
                    seeds=tuple(seeds[one] for one in in_order),
                    scores={score: join_seeds([corpus[one][score] for one in in_order]) for score in scores},
                )
            )
    return tuple(joined), tuple(notes)


def _shared_beginning(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((place for place, sign in enumerate(first) if not last.startswith(first[: place + 1])), len(first))
    return first[:length].rstrip(" -_.")


def joined_pairs(joined: Sequence[JoinedSeeds], corpus: Corpus) -> tuple[JoinedPair, ...]:
    """Every two configurations with at least two seeds in common: the mean difference at the same seed, Student's
    interval and p, and Holm's over all pairs in a score."""
    pairs = [pair for first, second in combinations(joined, 2) for pair in _pairs(first, second, corpus)]
    for score in dict.fromkeys(pair.score for pair in pairs):
        places = [place for place, pair in enumerate(pairs) if pair.score == score]
        for place, p in zip(places, holm([pairs[place].p for place in places]), strict=True):
            pairs[place] = replace(pairs[place], p_holm=p)
    return tuple(pairs)


def _pairs(first: JoinedSeeds, second: JoinedSeeds, corpus: Corpus) -> list[JoinedPair]:
    of_first, of_second = (dict(zip(one.seeds, one.systems, strict=True)) for one in (first, second))
    seeds = tuple(seed for seed in of_first if seed in of_second)
    if len(seeds) < 2:
        return []
    pairs = []
    for score in first.scores:
        if score in second.scores:
            differences = [corpus[of_second[seed]][score] - corpus[of_first[seed]][score] for seed in seeds]
            p = _p(differences)
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


def _p(differences: Sequence[float]) -> float:
    """Student's paired test, two-sided."""
    mean = math.fsum(differences) / len(differences)
    squares = math.fsum((difference - mean) ** 2 for difference in differences)
    if squares == 0:
        return float(mean == 0)
    t = abs(mean) / math.sqrt(squares / (len(differences) - 1) / len(differences))
    return max(0.0, 1 - student_within(t, len(differences) - 1))
