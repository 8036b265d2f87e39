"""Text to token ids and back by the published file of a checkpoint: sentencepiece, tokenizer.json or tiktoken."""

import base64
import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import tiktoken
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as schema
from tokenizers import Tokenizer, models

from r2gen.errors import UserError
from r2gen.lm.families import tokenizer_formats
from r2gen.lm.family import TokenizerFormat
from r2gen.lm.special_tokens import read_special_tokens, tokenizer_format

# If a checkpoint has two tokenizer files, they must agree on these.
SENTENCES = (
    "The heart size is normal. No pleural effusion or pneumothorax is seen.",
    "  two spaces, ET tube 4.5 cm above the carina (T4);\nIMPRESSION: 1. stable\t___ no acute disease ",
    "Übergröße 心脏 \U0001f600",
)
FAST = "tokenizer.json"
ModelProto: Any = schema.ModelProto  # type: ignore[attr-defined]  # made by protobuf when imported
LOOKS_SPECIAL = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


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

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(text)]

    def encode_with_special_tokens(self, text: str) -> list[int]:
        """See Codec. The stretches between special tokens are encoded separately, each with the file's dummy prefix, as
        the slow tokenizers of these formats do."""
        parts = self._special.split(text)
        return [i for part in parts for i in ([part] if isinstance(part, int) else self.encode(part))]

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
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.special_ids = frozenset(tokenizer.get_added_tokens_decoder())
        has_name = not isinstance(tokenizer.model, models.Unigram)  # tokenizers does not give the one of Unigram
        unknown = tokenizer.model.unk_token if has_name else None
        self.unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)

    @classmethod
    def read(cls, file: Path) -> "TokenizerJson":
        try:
            return cls(Tokenizer.from_file(str(file)))
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
        return self.tokenizer.decode([i for i in ids if 0 <= i < self.size], skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)


class Tiktoken:
    """A file of base64 byte strings and their ranks, such as GLM-4's `tokenizer.model` and Qwen v1's `qwen.tiktoken`.

    The file contains neither the split pattern nor the special tokens: both are those of its published `kind`.
    """

    def __init__(self, file: Path, kind: TokenizerFormat) -> None:
        try:
            lines = (line.split() for line in file.read_bytes().splitlines() if line)
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
            self._ids = frozenset(ranks.values())
            self.size = max(self._ids) + 1
            self._encoding = tiktoken.Encoding(
                kind.name, pat_str=str(kind.split), mergeable_ranks=ranks, special_tokens={}
            )
        except ValueError as error:
            raise UserError(f"lm.path: {file} is not a tiktoken file: {error}") from error
        self._nfc = kind.nfc
        self._special = read_special_tokens(file.parent, kind, size=self.size, pieces={})
        self.special_ids = self._special.ids
        self.unknown_id: int | None = None

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


def tokenizer_files(folder: Path) -> list[Path]:
    """Those that exist of tokenizer.json, sentencepiece's files, and those whose name belongs to a published format."""
    return [folder / name for name in (FAST, *_slow_names()) if (folder / name).is_file()]


def _slow_names() -> list[str]:
    return ["tokenizer.model", "spiece.model", *(kind.file for kind in tokenizer_formats() if kind.file)]


def read_codec(folder: Path) -> Codec:
    """The tokenizer of a checkpoint folder.

    Raises UserError if there is none, or if tokenizer.json and another tokenizer file encode SENTENCES differently.
    """
    fast, file = folder / FAST, next((file for file in tokenizer_files(folder) if file.name != FAST), None)
    if file is None and not fast.is_file():
        raise UserError(
            f"lm.path: {folder} has neither tokenizer.model nor {FAST} (nor {' nor '.join(_slow_names()[1:])}): "
            "copy the checkpoint's own tokenizer files into it"
        )
    if file is None:
        return TokenizerJson.read(fast)
    codec = Tiktoken(file, _tiktoken_format(file)) if _is_tiktoken(file) else SentencePiece(file)
    if fast.is_file():
        other = TokenizerJson.read(fast)
        for sentence in SENTENCES:
            if codec.encode(sentence) != other.encode(sentence):
                raise UserError(
                    f"lm.path: {file.name} and tokenizer.json in {folder} encode {sentence!r} "
                    "differently: keep the one this checkpoint was trained with"
                )
    return codec


def _is_tiktoken(file: Path) -> bool:
    """Whether this is a tiktoken file, by its name or its content: GLM-4's is called tokenizer.model."""
    if file.suffix == ".tiktoken":
        return True
    with file.open("rb") as opened:
        return TIKTOKEN_LINE.fullmatch(opened.readline(200)) is not None


def _tiktoken_format(file: Path) -> TokenizerFormat:
    """The format with this file name, or else the one the checkpoint names, or else the first without a file name."""
    kinds = [kind for kind in tokenizer_formats() if kind.split]
    named = tokenizer_format(file.parent)
    candidates = [kind for kind in kinds if kind.file == file.name] or [kind for kind in kinds if kind == named]
    return (candidates or [kind for kind in kinds if kind.file is None])[0]
