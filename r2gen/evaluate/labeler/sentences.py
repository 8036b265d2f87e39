"""Splits normalised text into sentences, and a sentence into clauses, which a negation or a doubt does not cross."""

import re
import textwrap

from r2gen.evaluate.labeler.phrases import any_of, table

# The points in "1.5 cm", "1. effusion" and "Dr." do not end a sentence.
_END = re.compile(r"(?<!\bdr)(?<!\bvs)(?<!\bmr)(?<!\bmrs)[.!;](?!\d)|(?<!\d)\.(?=\d)|\n|\?(?= ?[A-Za-z]* ?$)")
_LIST_NUMBER = re.compile(r"^[ ,:/]*(?:\d{1,2}(?: ?[.):]| (?=[a-z]))\s*)?")

_PHRASES = table("clauses")
_VERB, _NOUN = any_of(_PHRASES["says"]), any_of(_PHRASES["denied_noun"])
_TURN = re.compile(rf",? ?\b(?:{any_of(_PHRASES['turns'])})\b")
_SUBJECT_AND_VERB = (
    r"(?:the|a|an|this|these)(?: [a-z]+){1,4} (?:is|are|was|were|has|have|appears?|remains?|demonstrates?|shows?)\b"
)
_NEW_SUBJECT = re.compile(
    r"(?:,| and|,? and)?(?= (?:there (?:is|are|has|have|was|were)\b"
    rf"|(?:the |both )?(?:{any_of(_PHRASES['about'])})(?: \w+){{0,4}}? (?:{_VERB})\b|{_SUBJECT_AND_VERB}))"
)
_NEW_FINDING = re.compile(
    rf"(?:,|, and| and(?= (?:there|an?)\b))?(?= (?:an? |the )?(?:{any_of(_PHRASES['opens_a_finding'])}) )"
)
_OR = re.compile(r"\b(?:or|nor)\b")
_STATEMENT = re.compile(rf"\b(?:{_VERB}|no|not|without|free|negative|absent|there|seen|noted|identified)\b")
_INCOMPLETE = re.compile(rf"(?:\b(?:{any_of(_PHRASES['leads_on'])})|^)$")
_DENIAL = re.compile(r"\b(?:no|without|free of|negative for)\b(?! (?:change|interval|significant))")
_ENDS_ON_A_NOUN = re.compile(rf"\b(?:{_NOUN})$")
_LONGEST = 500  # characters of a sentence: longer text is split, so that the time stays linear in its length


def sentences(text: str) -> list[str]:
    """The sentences of normalised text, without list numbers and empty sentences."""
    parts = (_LIST_NUMBER.sub("", part.strip()).strip(" ,:/") for part in _END.split(text))
    return [
        piece
        for part in parts
        for piece in (textwrap.wrap(part, _LONGEST) if len(part) > _LONGEST else [part])
        if piece
    ]


def clauses(sentence: str) -> list[tuple[int, int]]:
    """Start and end of each clause, in order. The words that separate clauses belong to none."""
    cuts = [match.span() for match in _TURN.finditer(sentence)]
    cuts += [match.span() for match in _NEW_SUBJECT.finditer(sentence) if _follows_a_statement(sentence, match)]
    cuts += [match.span() for match in _NEW_FINDING.finditer(sentence) if _ends_a_denial(sentence, match)]
    spans, start = [], 0
    for cut_start, cut_end in sorted(cuts):
        if cut_start >= start:
            spans.append((start, cut_start))
            start = cut_end
    spans.append((start, len(sentence)))
    return [(start, end) for start, end in spans if sentence[start:end].strip(" ,")]


def _follows_a_statement(sentence: str, match: re.Match[str]) -> bool:
    """Whether the text before is a complete statement, unlike in "no sign the heart is"."""
    before = sentence[: match.start()]
    return bool(_STATEMENT.search(before)) and not _INCOMPLETE.search(before.rstrip(" "))


def _ends_a_denial(sentence: str, match: re.Match[str]) -> bool:
    """Whether the text before denies a finding, ends with its noun, and no later "or" continues the list."""
    before = sentence[: match.start()].rstrip(" ,")
    if _DENIAL.search(before) is None or _INCOMPLETE.search(before) or _OR.search(sentence[match.end() :]):
        return False
    return bool(_ENDS_ON_A_NOUN.search(before))
