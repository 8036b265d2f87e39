"""The size of heart and mediastinum: which of them a clause calls normal, enlarged or borderline.

"Normal heart size and mediastinal contours": the adjective stands before what it is said of. "The heart and pulmonary
vessels are normal": it stands after, and is said of the whole row of nouns before it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from r2gen.evaluate.labeler.phrases import kinds, table

_TOKEN = kinds(table("sizes")["tokens"])
_SIZES = ("normal", "large", "perhaps_large", "borderline")
_SUBJECTS = ("both", "mediastinum", "heart", "other")
_OBSERVATIONS = {
    "both": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "heart": ("Cardiomegaly",),
    "mediastinum": ("Enlarged Cardiomediastinum",),
}
_OR_ELSE = re.compile(r"^ ?,? ?(?:or|to|versus|vs)(?: \w+ly)? $")


def _only(name: str, signs: str) -> re.Pattern[str]:
    """Nothing but the words of a list in sizes.yaml and some signs."""
    listed = "|".join(sorted(set(table("sizes")[name].split()), key=lambda word: (-len(word), word)))
    return re.compile(rf"[{signs}]*(?:(?:{listed})(?:[{signs}]+|$))*$")


_BEFORE_A_THING = _only("before_a_thing", " ")
_AFTER_A_THING = _only("after_a_thing", " ,:")
_IN_A_ROW = _only("in_a_row", " ,")
_FAR = 70  # characters between a noun and what is said of it


@dataclass(frozen=True)
class SizeStatement:
    """Where a clause speaks of a size, and whether as normal, enlarged or borderline."""

    observation: str
    start: int
    end: int
    says: str  # "normal", "large" or "borderline"


def size_statements(clause: str) -> Iterator[SizeStatement]:
    """Every statement on the size of heart or mediastinum in the clause; negations around it are not looked at."""
    tokens = [(str(found.lastgroup), found.start(), found.end()) for found in _TOKEN.finditer(clause)]
    if not any(kind in _OBSERVATIONS for kind, _, _ in tokens):
        return
    for index, (kind, start, end) in enumerate(tokens):
        if kind not in _SIZES:
            continue
        says = "large" if kind == "perhaps_large" else kind
        if index and tokens[index - 1][0] in _SIZES and _OR_ELSE.match(clause[tokens[index - 1][2] : start]):
            says = "borderline"  # "upper limits of normal or mildly enlarged"
        for subject in _said_of(clause, tokens, index):
            for observation in _OBSERVATIONS.get(subject, ()):
                yield SizeStatement(observation, start, end, says)


def _said_of(clause: str, tokens: list[tuple[str, int, int]], index: int) -> list[str]:
    """The subjects of the predicate at `index`."""
    kind, start, end = tokens[index]
    before = _row_before(clause, tokens, index)
    shared = _OR_ELSE.match(clause[tokens[index - 1][2] : start]) if index and tokens[index - 1][0] in _SIZES else None
    if shared:
        return _said_of(clause, tokens, index - 1)
    adjacent = (
        index > 0
        and tokens[index - 1][0] in _SUBJECTS
        and bool(_AFTER_A_THING.match(clause[tokens[index - 1][2] : start]))
    )
    if adjacent:
        return before
    after = _row_after(clause, tokens, index)
    if after and not clause[start:end].startswith("within"):
        return after
    far = not before or start - tokens[index - 1][2] > _FAR
    return [] if far or kind in ("perhaps_large", "borderline") else before


def _row_before(clause: str, tokens: list[tuple[str, int, int]], index: int) -> list[str]:
    row, at = list[str](), index - 1
    while at >= 0 and tokens[at][0] in _SUBJECTS:
        if row and not _IN_A_ROW.match(re.sub(r"\b\w+al\b", "", clause[tokens[at][2] : tokens[at + 1][1]])):
            break
        row.append(tokens[at][0])
        at -= 1
    return row


def _row_after(clause: str, tokens: list[tuple[str, int, int]], index: int) -> list[str]:
    row, end = list[str](), tokens[index][2]
    for kind, start, next_end in tokens[index + 1 :]:
        gap = clause[end:start]
        if kind not in _SUBJECTS or not (_IN_A_ROW.match(gap) if row else _BEFORE_A_THING.match(gap)):
            break
        row.append(kind)
        end = next_end
    return row
