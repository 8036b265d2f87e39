"""The result of task=compare: systems, their scores and differences, as plain data for tables, JSON and the page."""

from dataclasses import asdict, dataclass, field, replace

from PIL import Image

from r2gen.config.plain import Plain
from r2gen.evaluate.scores import ScoreSpec
from r2gen.evaluate.statistics import LEVEL, Interval, Pair

BASELINE = "null"  # the kind of a baseline in comparison.json and table.csv


@dataclass(frozen=True)
class System:
    """One of the systems compared."""

    name: str  # unique among the systems
    kind: str  # "run": a run folder; "file": a file of reports; BASELINE
    source: str  # the folder or file; for a baseline a description
    about: dict[str, str]  # facts of a run (lm, vision, seed, decoding, checkpoint, ...) in the order to show


@dataclass(frozen=True)
class FindingScore:
    """One finding in one system. `f1` is None where no reference has the finding."""

    support: int  # studies whose reference has the finding
    stated: int  # studies whose report has the finding
    precision: float | None
    recall: float | None
    f1: Interval | None


@dataclass(frozen=True)
class Stratum:
    """Scores of a subgroup of the studies. CIDEr's document frequencies are those of all references, but of "set"."""

    kind: str  # "reference" (normal or abnormal), "length" (thirds by number of words), or "set" (of a mix)
    name: str  # "normal", "abnormal", "up to 21 words", ..., or the name of a set
    studies: int
    scores: dict[str, dict[str, Interval]]  # by system and score


@dataclass(frozen=True)
class JoinedSeeds:
    """The mean over several seeds of one configuration, with Student's interval."""

    name: str
    systems: tuple[str, ...]  # one for each seed, in the order of `seeds`
    seeds: tuple[int, ...]
    scores: dict[str, Interval]


@dataclass(frozen=True)
class JoinedPair:
    """Two configurations: the mean of second - first over their common seeds, with Student's interval and p."""

    score: str
    first: str
    second: str
    seeds: tuple[int, ...]
    difference: Interval
    p: float
    p_holm: float  # corrected over all pairs of configurations

    @property
    def within_noise(self) -> bool:
        return self.p_holm >= 1 - LEVEL


@dataclass(frozen=True)
class StudyTexts:
    """The texts of a study on which the systems differ."""

    id: str
    spread: float  # highest minus lowest value of Comparison.differ_by; baselines do not count
    reference: str
    reports: dict[str, str]  # by system
    scores: dict[str, dict[str, float]]  # of this study, by system and score
    findings: dict[str, tuple[str, ...]]  # positive or uncertain findings of each text, by system or "reference"
    images: tuple[Image.Image, ...] = field(default=(), repr=False)  # 8-bit gray (mode L); not in comparison.json


@dataclass(frozen=True)
class Comparison:
    """All that the tables and the page of a comparison show. Scores are 0 to 1, CIDEr 0 to 10, all of one split."""

    title: str
    written: str  # ISO time
    split: str
    studies: int
    references: str  # 16 hex digits: a digest of all ids and reference texts
    systems: tuple[System, ...]
    scores: dict[str, dict[str, Interval]]  # by system and score
    score_specs: tuple[ScoreSpec, ...]  # titles, columns and directions of the scores
    pairs: tuple[Pair, ...]  # every two systems in every score
    joined: tuple[JoinedSeeds, ...]  # configurations with several seeds
    joined_pairs: tuple[JoinedPair, ...]
    findings: dict[str, dict[str, FindingScore]]  # by finding ("normal" is last) and system
    strata: tuple[Stratum, ...]
    differ_by: str  # the score by which `differing` is chosen
    differing: tuple[StudyTexts, ...]  # largest spread first
    recipe: dict[str, str]  # how the texts were made: section, cleaner, case, truncation, data
    signatures: dict[str, dict[str, str]]  # how each metric was computed, the same for every system
    notes: tuple[str, ...]  # shown below the tables


def as_plain(comparison: Comparison) -> Plain:
    """The comparison as JSON-like dictionaries and lists, with `within_noise` of each pair and without images."""
    plain = asdict(_without_images(comparison))
    for study in plain["differing"]:
        del study["images"]
    for plain_pair, pair in zip(plain["pairs"], comparison.pairs, strict=True):
        plain_pair["within_noise"] = pair.within_noise
    for plain_pair, joined_pair in zip(plain["joined_pairs"], comparison.joined_pairs, strict=True):
        plain_pair["within_noise"] = joined_pair.within_noise
    return plain


def _without_images(comparison: Comparison) -> Comparison:
    return replace(comparison, differing=tuple(replace(study, images=()) for study in comparison.differing))
