"""The special tokens of a checkpoint by name, and how a text that may contain them is split."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown
from r2gen.lm import families
from r2gen.lm.checkpoint import read_json
from r2gen.lm.family import TokenizerFormat

MOST_TOKENS, LONGEST_NAME = 100_000, 1000


@dataclass(frozen=True)
class SpecialToken:
    """One special token. `lstrip` and `rstrip` say whether it includes the white space before and after it."""

    id: int
    lstrip: bool = False
    rstrip: bool = False


class SpecialTokens:
    """Special tokens by name. They are recognised in a chat template, and never in a report."""

    def __init__(self, by_name: Mapping[str, SpecialToken]) -> None:
        self.by_name = dict(by_name)
        self.ids = frozenset(token.id for token in by_name.values())
        longest_first = sorted(self.by_name, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(self._with_space, longest_first)))

    def id_of(self, name: str) -> int | None:
        token = self.by_name.get(name)
        return None if token is None else token.id

    def split(self, text: str) -> Iterator[str | int]:
        """The non-empty stretches of a text between special tokens, and the ids of the special tokens, in order."""
        start = 0
        for match in self._pattern.finditer(text) if self.by_name else ():
            if match.start() > start:
                yield text[start : match.start()]
            token = self.by_name.get(match.group()) or self.by_name[match.group().strip()]
            yield token.id
            start = match.end()
        if start < len(text):
            yield text[start:]

    def _with_space(self, name: str) -> str:
        token = self.by_name[name]
        return (r"\s*" if token.lstrip else "") + re.escape(name) + (r"\s*" if token.rstrip else "")


def tokenizer_format(folder: Path) -> TokenizerFormat:
    """The format that tokenizer_config.json names, or else that of the model_type in config.json."""
    named = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    if named:
        candidates = [kind for kind in families.tokenizer_formats() if kind.name == named]
    else:
        candidates = [*families.family(str(read_json(folder / "config.json").get("model_type"))).tokenizers]
    return candidates[0] if candidates else TokenizerFormat()


def read_special_tokens(folder: Path, kind: TokenizerFormat, *, size: int, pieces: Mapping[str, int]) -> SpecialTokens:
    """The special tokens that a checkpoint's files list, then `pieces` of the tokenizer file itself, then those that
    follow the `size` ids of that file in this format, as far as the embedding matrix has rows for them."""
    rows = _rows(read_json(folder / "config.json"))
    tokens = {name: SpecialToken(size + i) for i, name in enumerate(kind.following) if size + i < rows}
    tokens |= {name: SpecialToken(i) for name, i in pieces.items()}
    added, decoder = folder / "added_tokens.json", folder / "tokenizer_config.json"
    for name, i in read_json(added).items():
        tokens[_name(name, added)] = SpecialToken(_id(i, added))
    listed = read_json(decoder).get("added_tokens_decoder") or {}
    for i, token in listed.items() if isinstance(listed, dict) else [("added_tokens_decoder", None)]:
        if not isinstance(token, dict):
            raise _wrong(i, decoder)
        number = int(i) if re.fullmatch(r"[0-9]{1,9}", i) else i
        tokens[_name(token.get("content"), decoder)] = SpecialToken(
            _id(number, decoder), bool(token.get("lstrip")), bool(token.get("rstrip"))
        )
    if len(tokens) > MOST_TOKENS:
        raise UserError(f"lm.path: {folder} lists {len(tokens):,} special tokens: at most {MOST_TOKENS:,} are read")
    return SpecialTokens(tokens)


def _rows(config: Plain) -> float:
    text = config.get("text_config")  # of a multimodal checkpoint
    config = config | text if isinstance(text, dict) else config
    rows = config.get("padded_vocab_size") or config.get("vocab_size") or float("inf")
    return rows if isinstance(rows, int | float) else 0  # transformers refuses the type


def _name(name: Any, file: Path) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        raise _wrong(name, file)
    return name


def _id(number: Any, file: Path) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
        raise _wrong(number, file)
    return number


def _wrong(value: Any, file: Path) -> UserError:
    return UserError(f"lm.path: {file} lists special tokens by name and id, and {shown(value)} is neither")
