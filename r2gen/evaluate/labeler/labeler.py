"""Labels a report: positive, negative, uncertain or not mentioned for each of the 14 CheXpert observations.

The conventions are those of the CheXpert labeler (Irvin et al., AAAI 2019): over mentions of an observation positive
wins over uncertain, and uncertain over negative; "No Finding" is positive where nothing but support devices is positive
or uncertain. docs/labeler.md says what is decided where the conventions leave room.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from r2gen.evaluate.labeler.heart import size_statements
from r2gen.evaluate.labeler.phrases import assertions, observations, table, words
from r2gen.evaluate.labeler.sentences import clauses, sentences
from r2gen.evaluate.labeler.words import normal_text

VERSION = "1"
NO_FINDING = "No Finding"
DEVICES = "Support Devices"
OTHER = "Other"  # abnormal, but none of the 14
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


_OF_A_CHEST = re.compile(words(table("clauses")["of_a_chest"]))
_STRENGTH = {Status.POSITIVE: 2, Status.UNCERTAIN: 1, Status.NEGATIVE: 0}
_STAYS_AFTER_HISTORY = {DEVICES, "Fracture", OTHER}  # what happened once is still there


@dataclass(frozen=True)
class ReportLabels:
    """What a report states. `status` has the observations it mentions; `normal`: nothing abnormal at all is said, also
    outside the 14 (spine, aorta, old granulomas, devices, low volumes), as Open-i's indexers use the word."""

    status: Mapping[str, Status]
    normal: bool


@dataclass(frozen=True)
class _Mention:
    observation: str
    start: int
    end: int
    base: Status = Status.POSITIVE  # before negation and doubt are looked at


@dataclass(frozen=True)
class _Cue:
    kind: str
    start: int
    end: int


def label_report(report: str) -> ReportLabels:
    """The labels of any text. What says nothing of a chest has no label, and is not normal."""
    text, found = normal_text(report), dict[str, Status]()
    for sentence in sentences(text):
        for observation, status in _label_sentence(sentence):
            if observation not in found or _STRENGTH[status] > _STRENGTH[found[observation]]:
                found[observation] = status
    abnormal = {name for name, status in found.items() if status is not Status.NEGATIVE}
    says_something = bool(found) or bool(_OF_A_CHEST.search(text))
    if says_something and not abnormal & set(OBSERVATIONS) - {DEVICES}:
        found[NO_FINDING] = Status.POSITIVE
    return ReportLabels(
        status={name: found[name] for name in OBSERVATIONS if name in found}, normal=says_something and not abnormal
    )


@lru_cache(maxsize=1 << 15)
def _label_sentence(sentence: str) -> tuple[tuple[str, Status], ...]:
    """Observation and status of each mention. Sentences repeat from report to report, so they are remembered."""
    mentions = sorted(_mentions(sentence), key=lambda mention: mention.start)
    labels: list[tuple[str, Status]] = []
    for start, end in (
        clauses(sentence) if mentions or "heart" in sentence or "cardi" in sentence or "media" in sentence else ()
    ):
        clause = sentence[start:end]
        here = [
            _Mention(one.observation, one.start - start, one.end - start, one.base)
            for one in mentions
            if start <= one.start < end
        ]
        here += _sizes(clause)
        labels += _label_clause(clause, sorted(here, key=lambda mention: mention.start))
    return tuple(labels)


def _mentions(sentence: str) -> Iterator[_Mention]:
    for observation in observations():
        found = [match.span() for match in observation.mention.finditer(sentence)]
        if found and observation.excepted is not None:
            excepted = [match.span() for match in observation.excepted.finditer(sentence)]
            found = [(start, end) for start, end in found if not any(a < end and start < b for a, b in excepted)]
        for start, end in found:
            yield _Mention(observation.name, start, end)


def _sizes(clause: str) -> list[_Mention]:
    base = {"normal": Status.NEGATIVE, "large": Status.POSITIVE, "borderline": Status.UNCERTAIN}
    return [_Mention(one.observation, one.start, one.end, base[one.says]) for one in size_statements(clause)]


def _label_clause(clause: str, mentions: list[_Mention]) -> list[tuple[str, Status]]:
    if not mentions:
        return []
    cues = [_Cue(str(found.lastgroup), found.start(), found.end()) for found in assertions().finditer(clause)]
    cues = [_aimed(cue, mentions) for cue in cues if cue.kind != "void"]
    statuses = [_status(clause, mention, cues) for mention in mentions]
    named = [index for index, mention in enumerate(mentions) if mention.observation not in (DEVICES, OTHER)]
    for one, other in itertools.pairwise(named):
        if mentions[one].observation != mentions[other].observation:
            between = clause[mentions[one].end : mentions[other].start]
            if _EITHER_OR.match(between) and statuses[one] is Status.POSITIVE:
                versus = _VERSUS.search(between) and statuses[other] is Status.UNCERTAIN
                if versus or statuses[other] is Status.POSITIVE:
                    statuses[one] = statuses[other] = Status.UNCERTAIN
    return [
        (mention.observation, status) for mention, status in zip(mentions, statuses, strict=True) if status is not None
    ]


_VERSUS = re.compile(r"\b(?:versus|vs)\b")
_EITHER_OR = re.compile(r"^ ?,?(?: \w+){0,2} ?(?:or|and/or|and / or|versus|vs|/)(?: \w+){0,3} ?$")


def _aimed(cue: _Cue, mentions: list[_Mention]) -> _Cue:
    """A cue that works both ways doubts what follows; where nothing follows, what stands before."""
    if cue.kind == "doubt_after" and not any(mention.end <= cue.start for mention in mentions):
        return _Cue("doubt_before", cue.start, cue.end)  # "it is possible that"
    if not cue.kind.startswith("either"):
        return cue
    denies = cue.kind == "either_denied"
    if denies:
        follows = not any(mention.end <= cue.start for mention in mentions)
    else:
        follows = any(mention.start >= cue.end for mention in mentions)
    return _Cue(("denied" if denies else "doubt") + ("_before" if follows else "_after"), cue.start, cue.end)


def _status(clause: str, mention: _Mention, cues: list[_Cue]) -> Status | None:
    """None where the mention states nothing (history, supposition)."""
    if any(cue.kind == "same" and cue.start < mention.end and mention.start < cue.end for cue in cues):
        return None  # "no increase in heart size"
    before = _from_before(clause, mention, cues)
    if before == "gone":
        still = any(cue.kind == "still" and cue.start >= mention.end for cue in cues)
        if still or mention.observation in _STAYS_AFTER_HISTORY:
            return mention.base
        return Status.NEGATIVE if _from_after(clause, mention, cues) == "denied" else None
    if mention.base is Status.NEGATIVE:  # "normal", which a denial of something else does not reach
        if clause[: mention.start].rstrip().endswith(" not"):
            return Status.POSITIVE
        return Status.UNCERTAIN if before == "doubted" else Status.NEGATIVE
    after = _from_after(clause, mention, cues)
    if before == "denied" or after == "denied":
        return Status.NEGATIVE
    return Status.UNCERTAIN if before == "doubted" or after == "doubted" else mention.base


def _from_before(clause: str, mention: _Mention, cues: list[_Cue]) -> str:
    """What the nearest cue before the mention says of it: denied, doubted, gone, or nothing."""
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
    """A doubt stops at a comma, unless a list with "or" goes on."""
    return "," not in between or bool(re.search(r"\b(?:or|versus|vs)\b", between + clause[mention.end :]))


def _from_after(clause: str, mention: _Mention, cues: list[_Cue]) -> str:
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
