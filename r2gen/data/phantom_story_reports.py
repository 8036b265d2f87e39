"""The language of phantoms with a story: indications, reports that speak of change, and their reader."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from r2gen.data.phantom_reports import SIDED, SIDES

CHANGES = ("new", "larger", "smaller", "unchanged", "resolved")
SIZED = ("consolidation", "nodule", "effusion", "pneumothorax")  # small or large
HAZE = ("pneumonia", "contusion")  # two causes of a hazy apex, which are drawn alike
LATERAL_ONLY = ("fracture:spine", "hernia:hiatus")  # drawn on the lateral image alone
MIDLINE = {"cardiomegaly": "cardiomegaly:heart", "tube": "tube:trachea"} | {
    finding.partition(":")[0]: finding for finding in LATERAL_ONLY
}
STORY_FINDINGS = tuple(
    sorted([f"{kind}:{side}" for kind in (*SIDED, *HAZE) for side in SIDES] + list(MIDLINE.values()))
)
# The kinds in the order of a report. Those that are not in _DENIED are denied only if the indication names them.
NAMES = {
    "cardiomegaly": "cardiomegaly",
    "consolidation": "consolidation",
    "nodule": "nodule",
    **{kind: kind for kind in HAZE},
    "effusion": "effusion",
    "pneumothorax": "pneumothorax",
    "pacemaker": "pacemaker",
    "tube": "endotracheal tube",
    "fracture": "vertebral fracture",
    "hernia": "hiatal hernia",
}
_DENIED = ("cardiomegaly", "consolidation", "nodule", "effusion", "pneumothorax")
_DEVICES = ("pacemaker", "tube")
ONE_SIDE = ("{size}{side} {name}", "{size}{name} on the {side}")
CHANGE_WORDS = {  # after a finding; a device is removed, not resolved
    "new": (", new",),
    "larger": (", larger", ", increased"),
    "smaller": (", smaller", ", decreased"),
    "unchanged": (", unchanged", ", stable"),
    "resolved": ("has resolved", "has cleared"),
}
REMOVED = ("has been removed",)
UNEXPLAINED = "to explain the symptoms"

# Indications: the symptoms of each kind, and those without a question.
SYMPTOMS = {
    "cardiomegaly": ("leg swelling", "palpitations"),
    "consolidation": ("productive cough", "raised white cell count"),
    "nodule": ("weight loss", "smoker"),
    "pneumonia": ("fever", "chills"),
    "contusion": ("fall from a ladder", "car accident"),
    "effusion": ("shortness of breath", "known ascites"),
    "pneumothorax": ("sudden chest pain", "status post biopsy"),
}
QUESTIONS = ("evaluate for {name}", "question of {name}", "rule out {name}")
ROUTINE = ("preoperative examination", "routine follow up")


@dataclass(frozen=True)
class Stated:
    """What a report states."""

    findings: frozenset[str]
    changes: frozenset[tuple[str, str]]  # findings, also those that are gone, with their change
    doubted: str | None  # the kind that is denied as the explanation of the symptoms


def write_story(
    sizes: Mapping[str, str], changes: Mapping[str, str], doubted: str | None, rng: np.random.Generator
) -> str:
    """A lower-case report in R2Gen's cleaned form; the wording is drawn from rng.

    Every finding has a statement, with its size and, if it is in `changes` (as those that are gone are), its change.
    `doubted` is the kind that the indication names although it is absent.
    """
    statements = []
    for kind, name in NAMES.items():
        findings = [MIDLINE[kind]] if kind in MIDLINE else [f"{kind}:{side}" for side in SIDES]
        about = [finding for finding in findings if finding in sizes or finding in changes]
        statements += [_statement(finding, sizes.get(finding, ""), changes.get(finding), rng) for finding in about]
        if not about and kind == doubted:
            statements.append(f"no {name} {UNEXPLAINED}")
        elif not about and kind in _DENIED:
            statements.append(f"no {name}")
    return " . ".join(statements) + " ."


def _statement(finding: str, size: str, change: str | None, rng: np.random.Generator) -> str:
    kind, _, side = finding.partition(":")
    name = NAMES[kind]
    if kind not in MIDLINE:
        name = _pick(ONE_SIDE, rng).format(size=f"{size} " if size else "", side=side, name=name)
    if change is None:
        return name
    words = REMOVED if change == "resolved" and kind in _DEVICES else CHANGE_WORDS[change]
    return f"{name} {_pick(words, rng)}"


def write_indication(named: str | None, rng: np.random.Generator) -> str:
    """Why the images were taken: symptoms and a question that names this kind, or neither."""
    if named is None:
        return f"{_pick(ROUTINE, rng)} ."
    return f"{_pick(SYMPTOMS[named], rng)} . {_pick(QUESTIONS, rng).format(name=named)} ."


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


_KINDS = {kind: re.compile(rf"\b{name}s?\b") for kind, name in NAMES.items()}
_CHANGE = {
    change: re.compile("|".join(rf"\b{word.removeprefix(', ')}\b" for word in words))
    for change, words in (CHANGE_WORDS | {"resolved": CHANGE_WORDS["resolved"] + REMOVED}).items()
}
_DENIAL = re.compile(r"\bno\b.*")
_SIDE = {side: re.compile(rf"\b(?:{side}|bilateral|both)\b") for side in SIDES}


def read_story(report: str) -> Stated:
    """What a report states. Accepts any text; unknown phrases and sided findings without a side are ignored."""
    findings, changes, doubted = set[str](), set[tuple[str, str]](), None
    for sentence in report.lower().split("."):
        stated = _DENIAL.sub("", sentence)
        change = next((change for change, pattern in _CHANGE.items() if pattern.search(stated)), None)
        for kind, pattern in _KINDS.items():
            if UNEXPLAINED in sentence and pattern.search(sentence) and not pattern.search(stated):
                doubted = kind
            if not pattern.search(stated):
                continue
            sides = [side for side in SIDES if _SIDE[side].search(stated)]
            about = [MIDLINE[kind]] if kind in MIDLINE else [f"{kind}:{side}" for side in sides]
            if change is not None:
                changes |= {(finding, change) for finding in about}
            if change != "resolved":
                findings |= set(about)
    return Stated(frozenset(findings), frozenset(changes), doubted)
