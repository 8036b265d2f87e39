"""Labels a report: positive, uncertain, negative or not mentioned for each of the 14 CheXpert observations.

The conventions are those of the CheXpert labeler (Irvin et al., AAAI 2019). Of several mentions of an observation,
positive outranks uncertain, and uncertain outranks negative. "No Finding" is positive if no observation but support
devices is positive or uncertain. docs/labeler.md lists the decisions that these conventions leave open.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from r2gen.evaluate.labeler.heart import size_statements
from r2gen.evaluate.labeler.phrases import assertions, observations, table, whole_words
from r2gen.evaluate.labeler.sentences import clauses, sentences
from r2gen.evaluate.labeler.words import normal_text

VERSION = "1"
NO_FINDING = "No Finding"
DEVICES = "Support Devices"
OTHER = "Other"  # abnormal, but none of the 14 observations
OBSERVATIONS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    DEVICES,
)
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")  # CheXpert's competition tasks


class Status(StrEnum):
    POSITIVE = "positive"
    UNCERTAIN = "uncertain"
    NEGATIVE = "negative"


_OF_A_CHEST = re.compile(whole_words(table("clauses")["of_a_chest"]))
_RANK = {Status.POSITIVE: 2, Status.UNCERTAIN: 1, Status.NEGATIVE: 0}
_PERMANENT = {DEVICES, "Fracture", OTHER}  # present even if the report mentions it as history


@dataclass(frozen=True)
class ReportLabels:
    """The labels of a report.

    `normal` is stricter than "No Finding": the report states nothing abnormal at all, also outside the 14 observations
    (spine, aorta, old granulomas, devices, low volumes). Open-i's indexers use the word in this way.
    """

    status: Mapping[str, Status]  # of the observations that the report mentions
    normal: bool


@dataclass(frozen=True)
class _Mention:
    observation: str
    start: int
    end: int
    base: Status = Status.POSITIVE  # before negation and doubt are applied


@dataclass(frozen=True)
class _Cue:
    """A phrase that denies or doubts a mention, or ends the reach of such a phrase."""

    kind: str  # as in assertions.yaml
    start: int
    end: int


@lru_cache(maxsize=1 << 15)
def label_report(report: str) -> ReportLabels:
    """The labels of any text. A text that does not describe a chest has no label and is not normal.

    They are cached, since every system is scored against the same references, and pages show the same texts.
    """
    text, status = normal_text(report), dict[str, Status]()
    for sentence in sentences(text):
        for observation, stated in _label_sentence(sentence):
            if observation not in status or _RANK[stated] > _RANK[status[observation]]:
                status[observation] = stated
    abnormal = {observation for observation, stated in status.items() if stated is not Status.NEGATIVE}
    describes_a_chest = bool(status) or bool(_OF_A_CHEST.search(text))
    if describes_a_chest and not abnormal & set(OBSERVATIONS) - {DEVICES}:
        status[NO_FINDING] = Status.POSITIVE
    return ReportLabels(
        status={observation: status[observation] for observation in OBSERVATIONS if observation in status},
        normal=describes_a_chest and not abnormal,
    )


def stated_findings(report: str) -> tuple[str, ...]:
    """The observations that a text states, for readers; an uncertain one ends with "(uncertain)"."""
    status = label_report(report).status
    endings = {Status.POSITIVE: "", Status.UNCERTAIN: " (uncertain)"}
    return tuple(f"{finding}{endings[status[finding]]}" for finding in OBSERVATIONS if status.get(finding) in endings)


@lru_cache(maxsize=1 << 15)
def _label_sentence(sentence: str) -> tuple[tuple[str, Status], ...]:
    """Observation and status of each mention. Results are cached, since sentences recur in many reports."""
    mentions = sorted(_mentions(sentence), key=lambda mention: mention.start)
    if not mentions and not any(part in sentence for part in ("heart", "cardi", "media")):
        return ()
    labels: list[tuple[str, Status]] = []
    for start, end in clauses(sentence):
        clause = sentence[start:end]
        here = [
            _Mention(mention.observation, mention.start - start, mention.end - start, mention.base)
            for mention in mentions
            if start <= mention.start < end
        ]
        here += _sizes(clause)
        labels += _label_clause(clause, sorted(here, key=lambda mention: mention.start))
    return tuple(labels)


def _mentions(sentence: str) -> Iterator[_Mention]:
    for observation in observations():
        spans = [match.span() for match in observation.mention.finditer(sentence)]
        if spans and observation.excepted is not None:
            excepted = [match.span() for match in observation.excepted.finditer(sentence)]
            spans = [(start, end) for start, end in spans if not any(a < end and start < b for a, b in excepted)]
        for start, end in spans:
            yield _Mention(observation.name, start, end)


def _sizes(clause: str) -> list[_Mention]:
    base = {"normal": Status.NEGATIVE, "large": Status.POSITIVE, "borderline": Status.UNCERTAIN}
    return [
        _Mention(statement.observation, statement.start, statement.end, base[statement.size])
        for statement in size_statements(clause)
    ]


def _label_clause(clause: str, mentions: list[_Mention]) -> list[tuple[str, Status]]:
    if not mentions:
        return []
    cues = [_Cue(str(match.lastgroup), match.start(), match.end()) for match in assertions().finditer(clause)]
    cues = [_directed(cue, mentions) for cue in cues if cue.kind != "void"]
    statuses = [_status(clause, mention, cues) for mention in mentions]
    _doubt_alternatives(clause, mentions, statuses)
    return [
        (mention.observation, status) for mention, status in zip(mentions, statuses, strict=True) if status is not None
    ]


_VERSUS = re.compile(r"\b(?:versus|vs)\b")
_EITHER_OR = re.compile(r"^ ?,?(?: \w+){0,2} ?(?:or|and/or|and / or|versus|vs|/)(?: \w+){0,3} ?$")


def _doubt_alternatives(clause: str, mentions: list[_Mention], statuses: list[Status | None]) -> None:
    """Make two positive mentions that an "or" joins uncertain, as in "atelectasis or pneumonia"."""
    findings = [index for index, mention in enumerate(mentions) if mention.observation not in (DEVICES, OTHER)]
    for first, second in itertools.pairwise(findings):
        if mentions[first].observation == mentions[second].observation:
            continue
        between = clause[mentions[first].end : mentions[second].start]
        if _EITHER_OR.match(between) and statuses[first] is Status.POSITIVE:
            versus = _VERSUS.search(between) and statuses[second] is Status.UNCERTAIN
            if versus or statuses[second] is Status.POSITIVE:
                statuses[first] = statuses[second] = Status.UNCERTAIN


def _directed(cue: _Cue, mentions: list[_Mention]) -> _Cue:
    """The cue with the direction that it has here: some apply to mentions after them, or else to those before."""
    if cue.kind == "doubt_after" and not any(mention.end <= cue.start for mention in mentions):
        return _Cue("doubt_before", cue.start, cue.end)  # "it is possible that"
    if not cue.kind.startswith("either"):
        return cue
    if cue.kind == "either_denied":
        precedes = not any(mention.end <= cue.start for mention in mentions)
        return _Cue("denied_before" if precedes else "denied_after", cue.start, cue.end)
    precedes = any(mention.start >= cue.end for mention in mentions)
    return _Cue("doubt_before" if precedes else "doubt_after", cue.start, cue.end)


def _status(clause: str, mention: _Mention, cues: list[_Cue]) -> Status | None:
    """The status of a mention; None if it states nothing, as in a history or a supposition."""
    if any(cue.kind == "same" and cue.start < mention.end and mention.start < cue.end for cue in cues):
        return None  # "no increase in heart size"
    before = _from_before(clause, mention, cues)
    if before == "gone":
        still = any(cue.kind == "still" and cue.start >= mention.end for cue in cues)
        if still or mention.observation in _PERMANENT:
            return mention.base
        return Status.NEGATIVE if _from_after(clause, mention, cues) == "denied" else None
    if mention.base is Status.NEGATIVE:  # a "normal" size, to which the denial of something else does not apply
        if clause[: mention.start].rstrip().endswith(" not"):
            return Status.POSITIVE
        return Status.UNCERTAIN if before == "doubted" else Status.NEGATIVE
    after = _from_after(clause, mention, cues)
    if before == "denied" or after == "denied":
        return Status.NEGATIVE
    return Status.UNCERTAIN if before == "doubted" or after == "doubted" else mention.base


def _from_before(clause: str, mention: _Mention, cues: list[_Cue]) -> str:
    """The effect of the nearest cue before the mention: "denied", "doubted", "gone" (history), or none ("")."""
    linked = False
    for cue in reversed(cues):
        if cue.end > mention.start and (cue.kind != "denied_before" or cue.start >= mention.start):
            continue
        between = clause[cue.end : mention.start]
        match cue.kind:
            case "stop" | "same":
                break
            case "denied_before":
                return "denied"
            case "link":
                linked = True
            case "doubt_before" if linked or _reaches(clause, between, mention):
                return "doubted"
            case "gone_before" if "," not in between:
                return "gone"
    return "doubted" if linked else ""


def _reaches(clause: str, between: str, mention: _Mention) -> bool:
    """Whether a doubt applies to the mention: it ends at a comma, unless an "or" continues the list."""
    return "," not in between or bool(re.search(r"\b(?:or|versus|vs)\b", between + clause[mention.end :]))


def _from_after(clause: str, mention: _Mention, cues: list[_Cue]) -> str:
    """The effect of the nearest cue after the mention: "denied", "doubted", or none ("")."""
    for cue in (cue for cue in cues if cue.start >= mention.end):
        between = clause[mention.end : cue.start]
        if "," in between and not re.search(r"\b(?:and|or|nor)\b", between):
            return ""
        match cue.kind:
            case "denied_after":
                return "denied"
            case "doubt_after":
                return "doubted"
            case "still":
                continue
            case _:
                return ""
    return ""
