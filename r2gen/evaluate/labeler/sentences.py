"""Normal text into sentences, and a sentence into clauses: the stretches that a negation or a doubt cannot leave."""

import re
import textwrap

from r2gen.evaluate.labeler.phrases import any_of, table

# A number's point ends nothing ("1.5 cm"), nor does that of a list ("1. effusion") or a title.
_END = re.compile(r"(?<!\bdr)(?<!\bvs)(?<!\bmr)(?<!\bmrs)[.!;](?!\d)|(?<!\d)\.(?=\d)|\n|\?(?= ?[A-Za-z]* ?$)")
_LIST_NUMBER = re.compile(r"^[ ,:/]*(?:\d{1,2}(?: ?[.):]| (?=[a-z]))\s*)?")

_CUTS = table("clauses")
_SAYS, _NOUN = any_of(_CUTS["says"]), any_of(_CUTS["denied_noun"])
_TURN = re.compile(rf",? ?\b(?:{any_of(_CUTS['turns'])})\b")
_A_THING_SAYS = (
    r"(?:the|a|an|this|these)(?: [a-z]+){1,4} (?:is|are|was|were|has|have|appears?|remains?|demonstrates?|shows?)\b"
)
_NEW_SUBJECT = re.compile(
    r"(?:,| and|,? and)?(?= (?:there (?:is|are|has|have|was|were)\b"
    rf"|(?:the |both )?(?:{any_of(_CUTS['about'])})(?: \w+){{0,4}}? (?:{_SAYS})\b|{_A_THING_SAYS}))"
)
_NEW_FINDING = re.compile(
    rf"(?:,|, and| and(?= (?:there|an?)\b))?(?= (?:an? |the )?(?:{any_of(_CUTS['opens_a_finding'])}) )"
)
_OR = re.compile(r"\b(?:or|nor)\b")
_SAID = re.compile(rf"\b(?:{_SAYS}|no|not|without|free|negative|absent|there|seen|noted|identified)\b")
_LEADS_ON = re.compile(rf"(?:\b(?:{any_of(_CUTS['leads_on'])})|^)$")
_DENIAL = re.compile(r"\b(?:no|without|free of|negative for)\b(?! (?:change|interval|significant))")
_ENDS_ON_A_NOUN = re.compile(rf"\b(?:{_NOUN})$")
_LONGEST = 500  # characters: what is longer is no sentence, and is cut so that reading stays linear


def sentences(text: str) -> list[str]:
    """The sentences of normal text, without list numbers; none is empty."""
    parts = (_LIST_NUMBER.sub("", part.strip()).strip(" ,:/") for part in _END.split(text))
    return [
        piece
        for part in parts
        for piece in (textwrap.wrap(part, _LONGEST) if len(part) > _LONGEST else [part])
        if piece
    ]


def clauses(sentence: str) -> list[tuple[int, int]]:
    """Start and end of each clause, in order; together they are the sentence but for the words between them."""
    cuts = [found.span() for found in _TURN.finditer(sentence)]
    cuts += [found.span() for found in _NEW_SUBJECT.finditer(sentence) if _stands_alone(sentence, found)]
    cuts += [found.span() for found in _NEW_FINDING.finditer(sentence) if _ends_a_denial(sentence, found)]
    spans, start = [], 0
    for cut_start, cut_end in sorted(cuts):
        if cut_start >= start:
            spans.append((start, cut_start))
            start = cut_end
    spans.append((start, len(sentence)))
    return [(start, end) for start, end in spans if sentence[start:end].strip(" ,")]


def _stands_alone(sentence: str, found: re.Match[str]) -> bool:
    """Whether what stands before is a statement already, and does not lead on into this ("no sign the heart is")."""
    before = sentence[: found.start()]
    return bool(_SAID.search(before)) and not _LEADS_ON.search(before.rstrip(" "))


def _ends_a_denial(sentence: str, found: re.Match[str]) -> bool:
    """Only within the reach of a denial, after a noun of it, and where no "or" shows that the list goes on."""
    before = sentence[: found.start()].rstrip(" ,")
    if _DENIAL.search(before) is None or _LEADS_ON.search(before) or _OR.search(sentence[found.end() :]):
        return False
    return bool(_ENDS_ON_A_NOUN.search(before))
