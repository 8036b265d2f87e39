"""What task=compare found: systems, their scores, how they differ. Plain data for tables and the page; no torch."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from PIL import Image

from r2gen.evaluate.statistics import LEVEL, Interval, Pair

__all__ = [
    "Comparison",
    "FindingScore",
    "Interval",
    "JoinedPair",
    "JoinedSeeds",
    "Pair",
    "Stratum",
    "StudyTexts",
    "System",
    "as_plain",
]


@dataclass(frozen=True)
class System:
    """One column of the comparison."""

    name: str  # unique among the systems
    kind: str  # "run": a run folder; "file": predictions made elsewhere; "null": a null row
    source: str  # the folder or file; for a null row what it is, in words
    about: dict[str, str]  # what is known of a run: lm, vision, seed, decoding, checkpoint, ...; in the order to show


@dataclass(frozen=True)
class FindingScore:
    """One finding in one system. F1 has its interval; None where no reference has the finding."""

    support: int  # studies whose reference has it
    stated: int  # studies whose report has it
    precision: float | None
    recall: float | None
    f1: Interval | None


@dataclass(frozen=True)
class Stratum:
    """Studies of one kind; CIDEr's document frequencies stay those of all references."""

    kind: str  # "reference" (normal or abnormal) or "length" (thirds by words)
    name: str  # "normal", "abnormal", "up to 21 words", ...
    studies: int
    scores: dict[str, dict[str, Interval]]  # system to score


@dataclass(frozen=True)
class JoinedSeeds:
    """Runs of one configuration with several seeds: the mean over seeds, with Student's interval."""

    name: str
    systems: tuple[str, ...]  # their names, in the order of the seeds
    seeds: tuple[int, ...]
    scores: dict[str, Interval]


@dataclass(frozen=True)
class JoinedPair:
    """Two configurations: the mean of second - first over the seeds that both have, with Student's interval and p."""

    score: str
    first: str
    second: str
    seeds: tuple[int, ...]
    difference: Interval
    p: float
    p_holm: float  # among all pairs of configurations

    @property
    def within_noise(self) -> bool:
        return self.p_holm >= 1 - LEVEL


@dataclass(frozen=True)
class StudyTexts:
    """One study on which the systems differ, all texts side by side."""

    id: str
    spread: float  # highest minus lowest value of Comparison.differ_by among the systems that are no null rows
    reference: str
    reports: dict[str, str]  # system to report
    scores: dict[str, dict[str, float]]  # system to score to its value of this study
    findings: dict[str, tuple[str, ...]]  # system, and "reference", to the positive or uncertain findings of the text
    images: tuple[Image.Image, ...] = field(default=(), repr=False)  # 8-bit gray (mode L), as stored; not in the JSON


@dataclass(frozen=True)
class Comparison:
    """Everything on a comparison's tables and page. Scores are 0 to 1, CIDEr 0 to 10; all of one split."""

    title: str
    written: str  # ISO time
    split: str
    studies: int
    references: str  # 16 hex digits of all ids and reference texts: equal where two comparisons stand on the same
    systems: tuple[System, ...]
    scores: dict[str, dict[str, Interval]]  # system to score, the columns in order
    pairs: tuple[Pair, ...]  # every two systems in every score: difference, p, Holm's p, within_noise
    joined: tuple[JoinedSeeds, ...]  # empty where no configuration has several seeds
    joined_pairs: tuple[JoinedPair, ...]
    findings: dict[str, dict[str, FindingScore]]  # finding ("normal" last) to system
    strata: tuple[Stratum, ...]
    differ_by: str  # the score by which the studies are chosen
    differing: tuple[StudyTexts, ...]  # the largest spread first
    recipe: dict[str, str]  # the texts: section, cleaner, case, truncation, data
    signatures: dict[str, dict[str, str]]  # metric to how its scores came about, the same for every system
    notes: tuple[str, ...]  # sentences that stand below the tables


def as_plain(comparison: Comparison) -> dict[str, Any]:
    """For JSON: the fields as dictionaries and lists, pairs with their `within_noise`, without images."""
    plain = asdict(_without_images(comparison))
    for one in plain["differing"]:
        del one["images"]
    for row, pair in zip(plain["pairs"], comparison.pairs, strict=True):
        row["within_noise"] = pair.within_noise
    for row, joined in zip(plain["joined_pairs"], comparison.joined_pairs, strict=True):
        row["within_noise"] = joined.within_noise
    return plain


def _without_images(comparison: Comparison) -> Comparison:
    return replace(comparison, differing=tuple(replace(one, images=()) for one in comparison.differing))
