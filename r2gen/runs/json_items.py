"""Reads a JSON object that may be larger than the memory, with the bounds of untrusted.py."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from r2gen.runs.untrusted import MOST_DIGITS, MOST_GROUPS, refuse_deep, whole_number

LONGEST_ITEM, _BLOCK = 2**24, 2**20  # characters of a value, and of a block


def read_items(file: Path) -> Iterator[tuple[str, Any]]:
    """The keys and values of the JSON object in a file, one after another: the file may be larger than the memory.

    A value may have at most LONGEST_ITEM characters.
    """
    decoder = json.JSONDecoder(parse_int=partial(whole_number, most=MOST_DIGITS))
    with file.open(encoding="utf-8-sig") as text:
        rest = _Rest(text)
        if rest.character() != "{":
            raise ValueError("it does not begin with {")
        more = rest.character(take=False) != "}"
        while more:
            key = rest.value(decoder)
            if not isinstance(key, str) or rest.character() != ":":
                raise ValueError(f'character {rest.position:,}: no "KEY": VALUE')
            value = rest.value(decoder)
            refuse_deep(value, most=MOST_GROUPS)
            yield key, value
            after = rest.character(take=False)
            if after not in (",", "}"):
                raise ValueError(f"character {rest.position:,}: neither , nor }} after a value")
            if more := after == ",":
                rest.character()
        if rest.character() != "}" or rest.character():
            raise ValueError(f"character {rest.position:,}: the object does not end the file")


class _Rest:
    """The part of a text that is not parsed yet, read in blocks."""

    def __init__(self, text: IO[str]) -> None:
        self._text, self._read, self._start = text, "", 0
        self._dropped = 0  # characters that were parsed and are not in _read any more

    @property
    def position(self) -> int:
        return self._dropped + self._start

    def character(self, *, take: bool = True) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._start < len(self._read):
                following = self._read[self._start]
                if following not in " \t\r\n":
                    self._start += take
                    return following
                self._start += 1
            if not self._more():
                return ""

    def value(self, decoder: json.JSONDecoder) -> Any:
        """The value that begins at the next character."""
        if not self.character(take=False):
            raise ValueError("it ends too early")
        while True:
            try:
                value, end = decoder.raw_decode(self._read, self._start)
                if end + len("e-") < len(self._read) or not self._more():  # a number may end in the next block
                    self._start = end
                    return value
            except json.JSONDecodeError as error:
                if len(self._read) - self._start > LONGEST_ITEM or not self._more():
                    raise ValueError(f"character {self._dropped + error.pos:,}: {error.msg}") from None
            except RecursionError:
                raise ValueError("nested too deeply") from None

    def _more(self) -> bool:
        """Read another block; False at the end of the text."""
        block = self._text.read(_BLOCK)
        if block:
            self._dropped += self._start
            self._read, self._start = self._read[self._start :] + block, 0
        return bool(block)
