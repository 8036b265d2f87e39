"""Normalises a report for the phrase tables: case, spaces, hyphens, de-identification characters, spelling."""

import re
import unicodedata
from functools import lru_cache

from r2gen.evaluate.labeler.phrases import table

KEY_WORDS = frozenset(table("spelling")["mended"].split())
_CORRECT = frozenset(table("spelling")["right"].split())
_SHORTEST = 6  # letters of a word that may be misspelt
_TWO_ERRORS = 11  # letters of a key word from which two errors are corrected instead of one

# De-identification replaces a word by XXXX; in "chest x-XXXX" a part of one.
_DEIDENTIFIED = re.compile(r"(?:\b\w{1,2}-)?\bx{3,}\b(?:-\w+\b)?")
_OTHER_CHARACTERS = re.compile(r"[^a-z0-9.,;:?!/%\n ]+")
_BLANK_LINE = re.compile(r"\n\s*\n|\n\s*(?=(?:\d{1,2}[.)]|[-*•])\s)")
_SPACES = re.compile(r"\s+")
# R2Gen's cleaner removes slashes, so "effusion/atelectasis" becomes one word.
_JOINED = re.compile(
    r"\b(atelectasis|atelectatic|effusions?|consolidations?|infiltrates?|pneumonia|scarring|opacity)(?=[a-z]{5})"
    r"|(?<=[a-z]{4})(?=(?:atelectasis|effusions?|consolidations?|infiltrates?|hemothorax)\b)"
)
_WORD = re.compile(r"[a-z]{6,}")


def normal_text(report: str) -> str:
    """The report in lower-case ASCII letters, digits and . , ; : ? ! / %, with single spaces.

    A "\\n" is only where a blank line or a new list item ends a sentence.
    """
    text = unicodedata.normalize("NFKD", report).lower().replace("’", "'").replace("'", "")
    text = _BLANK_LINE.sub("\x00", text)
    text = _SPACES.sub(" ", text).replace("\x00", "\n")
    text = _OTHER_CHARACTERS.sub(" ", _DEIDENTIFIED.sub(" ", text))
    text = _JOINED.sub(lambda match: f"{match[1] or ''}/", text.replace("andor", "and/or")).replace("//", "/")
    return _WORD.sub(lambda match: corrected(match[0]), re.sub(" +", " ", text))


@lru_cache(maxsize=1 << 16)
def corrected(word: str) -> str:
    """The key word of which this word is a misspelling, or the word itself."""
    if len(word) < _SHORTEST or word in KEY_WORDS or word in _CORRECT:
        return word
    near = [key for key in sorted(KEY_WORDS) if word[0] == key[0] and abs(len(word) - len(key)) <= _allowed(key)]
    errors, key = min(((_distance(word, key), key) for key in near), default=(len(word), word))
    return key if errors <= _allowed(key) else word


def _allowed(key: str) -> int:
    return 2 if len(key) >= _TWO_ERRORS else 1


def _distance(word: str, key: str) -> int:
    """The optimal string alignment distance: letters inserted, deleted, replaced, or swapped with their neighbour."""
    before: list[int] = []
    last = list(range(len(key) + 1))
    for i, letter in enumerate(word, start=1):
        current = [i]
        for j, key_letter in enumerate(key, start=1):
            cost = min(last[j] + 1, current[-1] + 1, last[j - 1] + (letter != key_letter))
            if i > 1 and j > 1 and letter == key[j - 2] and word[i - 2] == key_letter:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]
