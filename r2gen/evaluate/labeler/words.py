"""Any text into the normal form that the phrase tables are written for: case, spaces, hyphens, marks, spelling."""

import re
import unicodedata
from functools import lru_cache

from r2gen.evaluate.labeler.phrases import table

KEY_WORDS = frozenset(table("spelling")["mended"].split())
_RIGHT = frozenset(table("spelling")["right"].split())
_SHORTEST, _TWO_SLIPS = 6, 11  # letters

# De-identification marks hide words; "chest x-XXXX" hides a part of one.
_MARK = re.compile(r"(?:\b\w{1,2}-)?\bx{3,}\b(?:-\w+\b)?")
_SIGNS = re.compile(r"[^a-z0-9.,;:?!/%\n ]+")
_BLANK_LINE = re.compile(r"\n\s*\n|\n\s*(?=(?:\d{1,2}[.)]|[-*•])\s)")
_SPACES = re.compile(r"\s+")
# R2Gen's cleaner takes slashes out: "effusion/atelectasis" comes as one word.
_JOINED = re.compile(
    r"\b(atelectasis|atelectatic|effusions?|consolidations?|infiltrates?|pneumonia|scarring|opacity)(?=[a-z]{5})"
    r"|(?<=[a-z]{4})(?=(?:atelectasis|effusions?|consolidations?|infiltrates?|hemothorax)\b)"
)
_WORD = re.compile(r"[a-z]{6,}")


def normal_text(report: str) -> str:
    """The report in lower-case ASCII letters, digits and . , ; : ? ! / %, with single spaces.

    A "\\n" stands only where a blank line or a new list item ends a sentence.
    """
    text = unicodedata.normalize("NFKD", report).lower().replace("’", "'").replace("'", "")
    text = _BLANK_LINE.sub("\x00", text)
    text = _SPACES.sub(" ", text).replace("\x00", "\n")
    text = _SIGNS.sub(" ", _MARK.sub(" ", text))
    text = _JOINED.sub(lambda found: f"{found[1] or ''}/", text.replace("andor", "and/or")).replace("//", "/")
    return _WORD.sub(lambda found: mended(found[0]), re.sub(" +", " ", text))


@lru_cache(maxsize=1 << 16)
def mended(word: str) -> str:
    """The key word that this word misspells, or the word itself."""
    if len(word) < _SHORTEST or word in KEY_WORDS or word in _RIGHT:
        return word
    near = [key for key in sorted(KEY_WORDS) if word[0] == key[0] and abs(len(word) - len(key)) <= _allowed(key)]
    slips, key = min(((_slips(word, key), key) for key in near), default=(len(word), word))
    return key if slips <= _allowed(key) else word


def _allowed(key: str) -> int:
    return 2 if len(key) >= _TWO_SLIPS else 1


def _slips(word: str, key: str) -> int:
    """Letters missing, added, changed, or two neighbours swapped (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(key) + 1))
    for row, letter in enumerate(word, start=1):
        now = [row]
        for column, wanted in enumerate(key, start=1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == key[column - 2] and word[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        before, last = last, now
    return last[-1]
