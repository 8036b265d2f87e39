"""The phantom's language: writes a report for a set of findings, in many wordings, and reads the findings back."""

import re
from collections.abc import Callable

import numpy as np

SIDED = ("consolidation", "nodule", "effusion", "pneumothorax", "pacemaker")
MIDLINE = {"cardiomegaly": "cardiomegaly:heart", "tube": "tube:trachea"}
SIDES = ("left", "right")  # the patient's
FINDINGS = tuple(sorted([f"{kind}:{side}" for kind in SIDED for side in SIDES] + list(MIDLINE.values())))

Pick = Callable[[tuple[str, ...]], str]

OPENINGS = (
    "frontal and lateral views of the chest",
    "two views of the chest were obtained",
    "pa and lateral chest films",
    "chest two views",
)
CLOSINGS = (
    "the bony structures are intact",
    "no acute bony abnormality",
    "the osseous structures are unremarkable",
    "visualized bones are normal",
)

# What is there, on one side. {side} is left or right, {seen} a verb that says nothing.
ONE_SIDE = {
    "pacemaker": (
        "a {side} sided pacemaker is {seen}",
        "pacemaker generator over the {side} chest wall",
        "a pacemaker {seen} on the {side} with its lead in the heart",
    ),
    "consolidation": (
        "there is consolidation in the {side} lung",
        "{side} lung consolidation is {seen}",
        "airspace opacity in the {side} lung compatible with consolidation",
        "consolidation is {seen} on the {side}",
    ),
    "nodule": (
        "there is a nodule in the {side} lung",
        "a {side} lung nodule is {seen}",
        "nodular density {seen} in the {side} lung",
        "a round nodule projects over the {side} lung",
    ),
    "effusion": (
        "there is a {side} pleural effusion",
        "{side} pleural effusion is {seen}",
        "blunting of the {side} costophrenic angle due to effusion",
        "pleural effusion is {seen} on the {side}",
    ),
    "pneumothorax": (
        "there is a {side} pneumothorax",
        "a {side} sided pneumothorax is {seen}",
        "pneumothorax is {seen} on the {side}",
        "a pleural line on the {side} indicates pneumothorax",
    ),
}
# What is there, on both sides.
BOTH_SIDES = {
    "pacemaker": ("bilateral pacemaker generators are {seen}", "pacemaker generators over both sides of the chest"),
    "consolidation": ("consolidation is {seen} in both lungs", "there are bilateral areas of consolidation"),
    "nodule": ("nodules are {seen} in both lungs", "there are bilateral lung nodules"),
    "effusion": ("there are bilateral pleural effusions", "pleural effusions are {seen} on both sides"),
    "pneumothorax": ("there are bilateral pneumothoraces", "pneumothoraces are {seen} on both sides"),
}
SEEN = ("seen", "noted", "present", "identified")
HEART_ENLARGED = (
    "the heart is enlarged",
    "cardiomegaly is {seen}",
    "the cardiac silhouette is enlarged",
    "heart size is enlarged",
)
HEART_NORMAL = (
    "the heart is normal in size",
    "no cardiomegaly",
    "the cardiac silhouette is within normal limits",
    "heart size is normal",
)
TUBE = (
    "an endotracheal tube is {seen}",
    "endotracheal tube in the trachea",
    "the tip of an endotracheal tube is {seen} above the carina",
)
LUNGS_CLEAR = (
    "the lungs are clear",
    "both lungs are clear without consolidation",
    "no focal consolidation or nodule",
    "the lungs are free of consolidation",
)
ABSENT = {  # sentences for one absent kind; said about half the time
    "consolidation": ("no focal consolidation", "there is no airspace consolidation"),
    "nodule": ("no lung nodule", "there is no suspicious nodule"),
    "effusion": ("no pleural effusion", "there is no effusion", "the costophrenic angles are sharp"),
    "pneumothorax": ("no pneumothorax", "there is no pneumothorax"),
}
PLEURA_CLEAR = (
    "no pleural effusion or pneumothorax",
    "there is no effusion or pneumothorax",
    "no pneumothorax or pleural effusion is {seen}",
    "there is no evidence of pneumothorax or effusion",
)


def write_report(findings: frozenset[str], rng: np.random.Generator) -> str:
    """A lower-case report in R2Gen's cleaned form that states every finding; the wording is drawn from rng.

    The order is a radiologist's: devices, heart, lungs, pleura. What is absent may or may not be mentioned.
    """

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    sentences: list[str] = []
    if rng.random() < 0.5:
        sentences.append(pick(OPENINGS))
    if MIDLINE["tube"] in findings:
        sentences.append(pick(TUBE))
    sentences += _present("pacemaker", findings, pick)
    sentences.append(pick(HEART_ENLARGED if MIDLINE["cardiomegaly"] in findings else HEART_NORMAL))
    sentences += _pair("consolidation", "nodule", LUNGS_CLEAR, findings=findings, pick=pick, rng=rng)
    sentences += _pair("effusion", "pneumothorax", PLEURA_CLEAR, findings=findings, pick=pick, rng=rng)
    if rng.random() < 0.5 or len(sentences) < 4:
        sentences.append(pick(CLOSINGS))
    return " . ".join(sentence.replace("{seen}", pick(SEEN)) for sentence in sentences) + " ."


def _present(kind: str, findings: frozenset[str], pick: Pick) -> list[str]:
    """The sentence on a kind that is there on one or both sides; none where it is absent."""
    sides = [side for side in SIDES if f"{kind}:{side}" in findings]
    if not sides:
        return []
    return [pick(BOTH_SIDES[kind]) if len(sides) == 2 else pick(ONE_SIDE[kind]).replace("{side}", sides[0])]


def _pair(
    first: str,
    second: str,
    neither: tuple[str, ...],
    *,
    findings: frozenset[str],
    pick: Pick,
    rng: np.random.Generator,
) -> list[str]:
    """The sentences on two kinds that reports treat together, with one sentence where neither is there."""
    said = {kind: _present(kind, findings, pick) for kind in (first, second)}
    if not said[first] and not said[second]:
        return [pick(neither)]
    for kind in said:
        if not said[kind] and rng.random() < 0.5:
            said[kind] = [pick(ABSENT[kind])]
    return said[first] + said[second]


# The reader. A clause that opens with one of these words denies what it names.
_DENIAL = re.compile(r"\b(?=(?:no|not|without|free)\b)")
_DENIES = re.compile(r"(?:no|not|without|free)\b")
_KINDS = {
    "cardiomegaly": re.compile(r"\bcardiomegaly\b|\b(?:heart|cardiac)\b.*\benlarged\b"),
    "tube": re.compile(r"\bendotracheal\b"),
    "pacemaker": re.compile(r"\bpacemakers?\b"),
    "consolidation": re.compile(r"\bconsolidations?\b"),
    "nodule": re.compile(r"\bnodules?\b|\bnodular\b"),
    "effusion": re.compile(r"\beffusions?\b"),
    "pneumothorax": re.compile(r"\bpneumothora(?:x|ces)\b"),
}
_SIDE = {side: re.compile(rf"\b(?:{side}|bilateral|both)\b") for side in SIDES}


def read_findings(report: str) -> frozenset[str]:
    """The findings a report states. Reads any text: what it does not understand, and a sided finding without
    a side, is no finding."""
    found: set[str] = set()
    for sentence in report.lower().split("."):
        for clause in _DENIAL.split(sentence):
            if _DENIES.match(clause):
                continue
            for kind, pattern in _KINDS.items():
                if not pattern.search(clause):
                    continue
                if kind in MIDLINE:
                    found.add(MIDLINE[kind])
                else:
                    found |= {f"{kind}:{side}" for side in SIDES if _SIDE[side].search(clause)}
    return frozenset(found)
