"""The language of the phantom: reports for a set of findings, in many wordings, and a reader of these findings."""

import re

import numpy as np

SIDED = ("consolidation", "nodule", "effusion", "pneumothorax", "pacemaker")
MIDLINE = {"cardiomegaly": "cardiomegaly:heart", "tube": "tube:trachea"}
SIDES = ("left", "right")  # the patient's
FINDINGS = tuple(sorted([f"{kind}:{side}" for kind in SIDED for side in SIDES] + list(MIDLINE.values())))

# Phrases for what is present. {side} is left or right, {seen} one of SEEN.
ONE_SIDE = {
    "pacemaker": ("pacemaker {seen} on the {side}", "pacemaker generator over the {side} chest wall"),
    "consolidation": ("consolidation {seen} in the {side} lung", "airspace consolidation in the {side} lung"),
    "nodule": ("nodule {seen} in the {side} lung", "round nodule in the {side} lung"),
    "effusion": ("pleural effusion {seen} on the {side}", "effusion blunts the {side} costophrenic angle"),
    "pneumothorax": ("pneumothorax {seen} on the {side}", "collapse of the {side} lung due to pneumothorax"),
}
BOTH_SIDES = {
    "pacemaker": ("pacemaker {seen} on both sides", "pacemaker generator over both sides of the chest"),
    "consolidation": ("consolidation {seen} in both lungs", "airspace consolidation in both lungs"),
    "nodule": ("nodule {seen} in both lungs", "round nodule in both lungs"),
    "effusion": ("pleural effusion {seen} on both sides", "effusion blunts both costophrenic angles"),
    "pneumothorax": ("pneumothorax {seen} on both sides", "collapse of both lungs due to pneumothorax"),
}
SEEN = ("seen", "noted", "present")
ABSENT = {
    "consolidation": ("no consolidation", "lungs free of consolidation"),
    "nodule": ("no nodule", "no lung nodule"),
    "effusion": ("no effusion", "no pleural effusion", "sharp costophrenic angles"),
    "pneumothorax": ("no pneumothorax", "expanded lungs without pneumothorax"),
    "pacemaker": ("no pacemaker", "no cardiac device"),
}
HEART_ENLARGED = ("the heart is enlarged", "cardiomegaly is {seen}")
HEART_NORMAL = ("the heart is normal in size", "no cardiomegaly")
TUBE = ("endotracheal tube {seen}", "endotracheal tube in the trachea")
NO_TUBE = ("no endotracheal tube", "no tube in the trachea")
ORDER = ("consolidation", "nodule", "effusion", "pneumothorax", "pacemaker")


def write_report(findings: frozenset[str], rng: np.random.Generator) -> str:
    """A lower-case report in R2Gen's cleaned form that states every finding; the wording is drawn from rng.

    The order is that of a radiologist: heart, lungs, pleura, devices. The report also denies what is absent.
    """

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    def present(kind: str) -> tuple[str, ...]:
        sides = [side for side in SIDES if f"{kind}:{side}" in findings]
        if len(sides) == 2:
            return BOTH_SIDES[kind]
        return tuple(phrase.replace("{side}", side) for side in sides for phrase in ONE_SIDE[kind])

    statements = [
        HEART_ENLARGED if MIDLINE["cardiomegaly"] in findings else HEART_NORMAL,
        *(present(kind) or ABSENT[kind] for kind in ORDER),
        TUBE if MIDLINE["tube"] in findings else NO_TUBE,
    ]
    return " . ".join(pick(phrases).replace("{seen}", pick(SEEN)) for phrases in statements) + " ."


# The reader. Some words negate what follows them, some the whole sentence.
_DENIES_REST = re.compile(r"\b(?:no|without|free)\b.*")
_DENIES_ALL = re.compile(r"\b(?:not|absent)\b")
_KINDS = {
    "cardiomegaly": re.compile(r"\bcardiomegaly\b|\b(?:heart|cardiac)\b.*\benlarged\b"),
    "tube": re.compile(r"\bendotracheal\b"),
    "pacemaker": re.compile(r"\bpacemakers?\b"),
    "consolidation": re.compile(r"\bconsolidations?\b"),
    "nodule": re.compile(r"\bnodules?\b"),
    "effusion": re.compile(r"\beffusions?\b"),
    "pneumothorax": re.compile(r"\bpneumothora(?:x|ces)\b"),
}
_SIDE = {side: re.compile(rf"\b(?:{side}|bilateral|bilaterally|both)\b") for side in SIDES}


def read_findings(report: str) -> frozenset[str]:
    """The findings that a report states. Accepts any text; unknown phrases and sided findings without a side are
    ignored."""
    findings: set[str] = set()
    for sentence in report.lower().split("."):
        if _DENIES_ALL.search(sentence):
            continue
        stated = _DENIES_REST.sub("", sentence)
        for kind, pattern in _KINDS.items():
            if not pattern.search(stated):
                continue
            if kind in MIDLINE:
                findings.add(MIDLINE[kind])
            else:
                findings |= {f"{kind}:{side}" for side in SIDES if _SIDE[side].search(stated)}
    return frozenset(findings)
