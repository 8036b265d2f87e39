"""Finds whether a clause describes the size of heart and mediastinum as normal, enlarged or borderline.

The adjective may precede its subjects ("normal heart size and mediastinal contours") or follow them ("the heart and
pulmonary vessels are normal"); either way it applies to the whole list of nouns.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from r2gen.evaluate.labeler.phrases import kinds_pattern, table

_TOKEN = kinds_pattern(table("sizes")["tokens"])
_SIZES = ("normal", "large", "perhaps_large", "borderline")
_SUBJECTS = ("both", "mediastinum", "heart", "other")
_OBSERVATIONS = {
    "both": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "heart": ("Cardiomegaly",),
    "mediastinum": ("Enlarged Cardiomediastinum",),
}
_OR_ELSE = re.compile(r"^ ?,? ?(?:or|to|versus|vs)(?: \w+ly)? $")


def _only(name: str, separators: str) -> re.Pattern[str]:
    """A pattern of words from a list in sizes.yaml, with the given characters between them, and nothing else."""
    words = "|".join(sorted(set(table("sizes")[name].split()), key=lambda word: (-len(word), word)))
    return re.compile(rf"[{separators}]*(?:(?:{words})(?:[{separators}]+|$))*$")


_BEFORE_A_SUBJECT = _only("before_a_thing", " ")
_AFTER_A_SUBJECT = _only("after_a_thing", " ,:")
_BETWEEN_SUBJECTS = _only("in_a_row", " ,")
_FAR = 70  # characters between a subject and a size that does not apply to it any more

_Token = tuple[str, int, int]  # kind, start, end


@dataclass(frozen=True)
class SizeStatement:
    """A description of a size in a clause, from `start` to `end`."""

    observation: str
    start: int
    end: int
    size: str  # "normal", "large" or "borderline"


def size_statements(clause: str) -> Iterator[SizeStatement]:
    """All descriptions of the size of heart or mediastinum in the clause, without regard to negations."""
    tokens = [(str(match.lastgroup), match.start(), match.end()) for match in _TOKEN.finditer(clause)]
    if not any(kind in _OBSERVATIONS for kind, _, _ in tokens):
        return
    for index, (kind, start, end) in enumerate(tokens):
        if kind not in _SIZES:
            continue
        size = "large" if kind == "perhaps_large" else kind
        if _is_alternative(clause, tokens, index):
            size = "borderline"  # "upper limits of normal or mildly enlarged"
        for subject in _subjects(clause, tokens, index):
            for observation in _OBSERVATIONS.get(subject, ()):
                yield SizeStatement(observation, start, end, size)


def _is_alternative(clause: str, tokens: list[_Token], index: int) -> bool:
    """Whether an "or" joins the size at `index` to the size before it."""
    if not index or tokens[index - 1][0] not in _SIZES:
        return False
    return bool(_OR_ELSE.match(clause[tokens[index - 1][2] : tokens[index][1]]))


def _subjects(clause: str, tokens: list[_Token], index: int) -> list[str]:
    """The subjects of the size at `index`."""
    kind, start, end = tokens[index]
    if _is_alternative(clause, tokens, index):
        return _subjects(clause, tokens, index - 1)
    before = _subjects_before(clause, tokens, index)
    if before and _AFTER_A_SUBJECT.match(clause[tokens[index - 1][2] : start]):
        return before
    after = _subjects_after(clause, tokens, index)
    if after and not clause[start:end].startswith("within"):
        return after
    far = not before or start - tokens[index - 1][2] > _FAR
    return [] if far or kind in ("perhaps_large", "borderline") else before


def _subjects_before(clause: str, tokens: list[_Token], index: int) -> list[str]:
    """The list of subjects that ends before the token at `index`."""
    subjects, at = list[str](), index - 1
    while at >= 0 and tokens[at][0] in _SUBJECTS:
        gap = re.sub(r"\b\w+al\b", "", clause[tokens[at][2] : tokens[at + 1][1]])
        if subjects and not _BETWEEN_SUBJECTS.match(gap):
            break
        subjects.append(tokens[at][0])
        at -= 1
    return subjects


def _subjects_after(clause: str, tokens: list[_Token], index: int) -> list[str]:
    """The list of subjects that begins after the token at `index`."""
    subjects, end = list[str](), tokens[index][2]
    for kind, start, next_end in tokens[index + 1 :]:
        words = _BETWEEN_SUBJECTS if subjects else _BEFORE_A_SUBJECT
        if kind not in _SUBJECTS or not words.match(clause[end:start]):
            break
        subjects.append(kind)
        end = next_end
    return subjects
