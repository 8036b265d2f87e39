"""Text to token ids and back by the published file of a checkpoint: sentencepiece, tokenizer.json or tiktoken."""

import base64
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import tiktoken
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as schema
from tokenizers import Tokenizer, models

from r2gen.errors import UserError
from r2gen.lm.family import TokenizerFormat
from r2gen.lm.special_tokens import SpecialTokens, read_special_tokens, tokenizer_format
from r2gen.runs.untrusted import parse_json, read_text

# If a checkpoint has two tokenizer files, they must agree on these. None begins with a space, as no cleaned report
# does: the two published files of Mistral 7B v0.3 differ there.
SENTENCES = (
    "The heart size is normal. No pleural effusion or pneumothorax is seen.",
    "the heart is enlarged . pa and lateral views , 2 of 3 . no focal consolidation , effusion , or pneumothorax .",
    "FINDINGS: AP view at 12:45. ET tube 4.5 cm above the carina (T4);\nIMPRESSION:\n1. stable\t___ no acute disease",
    "Übergröße 心脏 \U0001f600",
)
ModelProto: Any = schema.ModelProto  # type: ignore[attr-defined]  # made by protobuf when imported
LOOKS_SPECIAL = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


class Codec(Protocol):
    """A tokenizer file and the names of its special tokens. No special token is added to a text."""

    size: int  # ids that a text can have; special tokens may have larger ones
    special_ids: frozenset[int]
    unknown_id: int | None  # the id of text that has no token

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text, in which no special token is recognised."""

    def encode_with_special_tokens(self, text: str) -> list[int]:
        """Ids of a text in which the names of special tokens are recognised."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens and without ids that no token has."""

    def id_of(self, token: str) -> int | None: ...


LARGEST_JSON = 2**28  # bytes


class SentencePiece:
    """`tokenizer.model` or `spiece.model`, encoded and decoded by sentencepiece itself.

    transformers 5.23 ignores the file's add_dummy_prefix, and its decoder replaces a whole run of byte tokens that is
    not valid UTF-8 where sentencepiece replaces only the invalid bytes.
    """

    def __init__(self, file: Path) -> None:
        model = ModelProto()
        try:
            model.ParseFromString(file.read_bytes())
            if not model.pieces:  # protobuf accepts an empty file as an empty model
                raise ValueError("it holds no pieces")
            pieces = _make_control_pieces(model)
            self._processor = SentencePieceProcessor(model_proto=model.SerializeToString())
        except Exception as error:  # protobuf's DecodeError is in a private module, sentencepiece raises RuntimeError
            raise UserError(f"lm.path: {file} is not a sentencepiece file: {error}") from error
        self.size = int(self._processor.get_piece_size())
        self.unknown_id: int | None = int(self._processor.unk_id())
        self._special = read_special_tokens(file.parent, tokenizer_format(file.parent), size=self.size, pieces=pieces)
        self.special_ids = self._special.ids
        # With byte pieces the unknown token has no text. Without them it has, and sentencepiece decodes it to " ⁇ ".
        has_bytes = any(piece.type == ModelProto.SentencePiece.BYTE for piece in model.pieces)
        self._dropped = self.special_ids if has_bytes else self.special_ids - {self.unknown_id}
        self._fast: TokenizerJson | None = None

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(text)]

    def encode_with_special_tokens(self, text: str) -> list[int]:
        """See Codec. The stretches between special tokens are encoded separately, each with the file's dummy prefix, as
        the slow tokenizers of these formats do; where there is a tokenizer.json, it decides, as in transformers."""
        if self._fast is not None:
            return self._fast.encode_with_special_tokens(text)
        parts = self._special.split(text)
        return [i for part in parts for i in ([part] if isinstance(part, int) else self.encode(part))]

    def use_fast(self, fast: "TokenizerJson") -> None:
        """Encode texts with special tokens by the tokenizer.json next to it, if that has all of them."""
        self._fast = fast if self.special_ids <= fast.special_ids else None

    def decode(self, ids: Sequence[int]) -> str:
        """See Codec. The stretches between special tokens are joined without a space."""
        in_file = [i for i in ids if 0 <= i < self.size]
        stretches = groupby(in_file, key=self._dropped.__contains__)
        return "".join(self._processor.decode(list(stretch)) for dropped, stretch in stretches if not dropped)

    def id_of(self, token: str) -> int | None:
        special = self._special.id_of(token)
        if special is not None:
            return special
        i = int(self._processor.piece_to_id(token))
        return i if self._processor.id_to_piece(i) == token else None


def _make_control_pieces(model: Any) -> dict[str, int]:
    """Make user-defined pieces that look like special tokens (`<eoa>` of InternLM, `<|im_end|>` of Yi) control pieces:
    otherwise sentencepiece recognises them in a report. Returns the ids of all special pieces by name."""
    kind = ModelProto.SentencePiece
    for piece in model.pieces:
        if piece.type == kind.USER_DEFINED and LOOKS_SPECIAL.fullmatch(piece.piece):
            piece.type = kind.CONTROL
    return {piece.piece: i for i, piece in enumerate(model.pieces) if piece.type in (kind.CONTROL, kind.UNKNOWN)}


class TokenizerJson:
    """`tokenizer.json`, or a tokenizer trained by R2Gen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "</s>" in a report is text and must not end it
        tokenizer.no_truncation()  # published files may have both
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        unreachable = {i for i, token in added.items() if token.special}  # by a text, in which they are not recognised
        ids = set(tokenizer.get_vocab(with_added_tokens=True).values())
        self.size, self._end = (max(some, default=-1) + 1 for some in (ids - unreachable, ids))
        self.special_ids = frozenset(added)
        has_name = not isinstance(tokenizer.model, models.Unigram)  # tokenizers does not give the one of Unigram
        unknown = tokenizer.model.unk_token if has_name else None
        self.unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)

    @classmethod
    def read(cls, file: Path) -> "TokenizerJson":
        try:
            tokenizer = Tokenizer.from_file(str(file))
            ids = tokenizer.get_vocab(with_added_tokens=False).values()
            return cls(tokenizer if max(ids, default=-1) + 1 == len(ids) else _with_stated_ids(tokenizer, file))
        except Exception as error:  # tokenizers raises nothing more precise
            raise UserError(f"lm.path: {file} is not a tokenizer file: {error}") from error

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_with_special_tokens(self, text: str) -> list[int]:
        self.tokenizer.encode_special_tokens = False
        try:
            return self.encode(text)
        finally:
            self.tokenizer.encode_special_tokens = True

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([i for i in ids if 0 <= i < self._end], skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)


def _with_stated_ids(tokenizer: Tokenizer, file: Path) -> Tokenizer:
    """The tokenizer with the ids of added tokens that the file states. Where the vocabulary has gaps, tokenizers 0.23
    numbers them from the size of the vocabulary, unless they are in it."""
    content = parse_json(read_text(file, most=LARGEST_JSON))
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    right = all(tokenizer.token_to_id(token["content"]) == token["id"] for token in added)
    if right or not isinstance(vocabulary, dict):
        return tokenizer
    vocabulary |= {token["content"]: token["id"] for token in added}
    return Tokenizer.from_str(json.dumps(content))


class Tiktoken:
    """Byte strings with ids, merged in the order of the ids after `split` (a regular expression) has split a text.

    With `nfc`, characters are composed (Unicode NFC) first.
    """

    def __init__(
        self, name: str, ranks: Mapping[bytes, int], *, split: str, special: SpecialTokens, nfc: bool = False
    ) -> None:
        self._ids = frozenset(ranks.values())
        self.size = max(self._ids) + 1
        self._encoding = tiktoken.Encoding(name, pat_str=split, mergeable_ranks=dict(ranks), special_tokens={})
        self._nfc = nfc
        self._special = special
        self.special_ids = self._special.ids
        self.unknown_id: int | None = None

    @classmethod
    def read(cls, file: Path, kind: TokenizerFormat) -> "Tiktoken":
        """A file of base64 byte strings and their ranks: GLM-4's `tokenizer.model` and Qwen v1's `qwen.tiktoken`.

        The file contains neither the split pattern nor the special tokens: both are those of its published `kind`.
        """
        try:
            lines = (line.split() for line in file.read_bytes().splitlines() if line)
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
            special = read_special_tokens(file.parent, kind, size=max(ranks.values()) + 1, pieces={})
            return cls(kind.name, ranks, split=str(kind.split), special=special, nfc=kind.nfc)
        except ValueError as error:
            raise UserError(f"lm.path: {file} is not a tiktoken file: {error}") from error

    def encode(self, text: str) -> list[int]:
        return self._encoding.encode_ordinary(self._normalised(text))

    def encode_with_special_tokens(self, text: str) -> list[int]:
        parts = self._special.split(self._normalised(text))
        return [i for part in parts for i in ([part] if isinstance(part, int) else self.encode(part))]

    def decode(self, ids: Sequence[int]) -> str:
        return self._encoding.decode([i for i in ids if i in self._ids], errors="replace")

    def id_of(self, token: str) -> int | None:
        special = self._special.id_of(token)
        if special is not None:
            return special
        ids = self.encode(token)
        return ids[0] if len(ids) == 1 else None

    def _normalised(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self._nfc else text
