"""Text to token ids and back by the published files: sentencepiece, tokenizer.json, tiktoken, each by its library."""

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
from r2gen.lm.marks import FOLLOWING, read_marks, tokenizer_class

# Both files of a checkpoint must agree on these.
SENTENCES = (
    "The heart size is normal. No pleural effusion or pneumothorax is seen.",
    "  two spaces, ET tube 4.5 cm above the carina (T4);\nIMPRESSION: 1. stable\t___ no acute disease ",
    "Übergröße 心脏 \U0001f600",
)
# How a text is cut before byte pairs are merged; {digits} is how many digits one piece may hold.
TIKTOKEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ModelProto: Any = schema.ModelProto  # type: ignore[attr-defined]  # made by protobuf when imported
MARK = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


class Codec(Protocol):
    """A tokenizer file and the names of its special tokens. No special token is added to a text."""

    size: int  # ids that a text can have; special tokens may lie beyond
    special: frozenset[int]  # special tokens, those of FOLLOWING among them
    unknown_id: int | None  # what stands for text that has no token

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text: nothing in it is taken for a special token."""

    def encode_marked(self, text: str) -> list[int]:
        """Ids of a text in which the names of special tokens mean these tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ones are dropped, and so are ids of padded rows that no token has."""

    def id_of(self, token: str) -> int | None: ...


class SentencePiece:
    """`tokenizer.model` or `spiece.model`, encoded and decoded by sentencepiece itself.

    transformers 5.23 ignores the file's add_dummy_prefix, and its decoder replaces a whole run of byte tokens that is
    not valid UTF-8 where sentencepiece replaces the bad bytes only.
    """

    def __init__(self, file: Path) -> None:
        model = ModelProto()
        try:
            model.ParseFromString(file.read_bytes())
            if not model.pieces:  # an empty file is an empty model to protobuf, and no model at all to sentencepiece
                raise ValueError("it holds no pieces")
            pieces = _marks_as_control(model)
            self._processor = SentencePieceProcessor(model_proto=model.SerializeToString())
        except (
            Exception
        ) as error:  # protobuf's DecodeError comes from a private module, sentencepiece's is RuntimeError
            raise UserError(f"lm.path: {file} is not a sentencepiece file: {error}") from error
        self.size = int(self._processor.get_piece_size())
        self.unknown_id: int | None = int(self._processor.unk_id())
        self._marks = read_marks(file.parent, kind=tokenizer_class(file.parent), size=self.size, pieces=pieces)
        self.special = self._marks.ids
        # Beside byte pieces an unknown stands for nothing; without them it is text, and sentencepiece writes it " ⁇ ".
        has_bytes = any(piece.type == ModelProto.SentencePiece.BYTE for piece in model.pieces)
        self._dropped = self.special if has_bytes else self.special - {self.unknown_id}

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(text)]

    def encode_marked(self, text: str) -> list[int]:
        """As Codec.encode_marked. The stretches between special tokens are encoded apart, each with the file's dummy
        prefix, as the slow tokenizers of these formats do."""
        return [i for part in self._marks.split(text) for i in ([part] if isinstance(part, int) else self.encode(part))]

    def decode(self, ids: Sequence[int]) -> str:
        """As Codec.decode: the stretches between special ids, joined without a space."""
        known = [i for i in ids if 0 <= i < self.size]
        stretches = groupby(known, key=self._dropped.__contains__)
        return "".join(self._processor.decode(list(stretch)) for dropped, stretch in stretches if not dropped)

    def id_of(self, token: str) -> int | None:
        named = self._marks.id_of(token)
        if named is not None:
            return named
        i = int(self._processor.piece_to_id(token))
        return i if self._processor.id_to_piece(i) == token else None


def _marks_as_control(model: Any) -> dict[str, int]:
    """Make user-defined pieces that look like marks (`<eoa>` of InternLM, `<|im_end|>` of Yi) control pieces: else
    sentencepiece takes these words in a report for them. Gives all special pieces by name."""
    kind = ModelProto.SentencePiece
    for piece in model.pieces:
        if piece.type == kind.USER_DEFINED and MARK.fullmatch(piece.piece):
            piece.type = kind.CONTROL
    return {piece.piece: i for i, piece in enumerate(model.pieces) if piece.type in (kind.CONTROL, kind.UNKNOWN)}


class TokenizerJson:
    """`tokenizer.json`, or one trained here."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "</s>" in a report is text and must not end it
        tokenizer.no_truncation()  # published files may hold both
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.special = frozenset(tokenizer.get_added_tokens_decoder())
        unknown = None if isinstance(tokenizer.model, models.Unigram) else tokenizer.model.unk_token  # it does not tell
        self.unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)

    @classmethod
    def read(cls, file: Path) -> "TokenizerJson":
        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # tokenizers raises nothing more precise
            raise UserError(f"lm.path: {file} is not a tokenizer file: {error}") from error

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_marked(self, text: str) -> list[int]:
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
    """A file of base64 byte strings and their ranks: GLM-4's `tokenizer.model`, Qwen v1's `qwen.tiktoken`.

    The file has neither the split pattern nor the special tokens; both are the published ones of the format `kind`.
    Qwen v1 composes characters (NFC) first, GLM-4 does not.
    """

    def __init__(self, file: Path, *, kind: str) -> None:
        try:
            lines = (line.split() for line in file.read_bytes().splitlines() if line)
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
            self._known = frozenset(ranks.values())
            self.size = max(self._known) + 1
            digits = "" if kind == "QWenTokenizer" else "{1,3}"
            self._encoding = tiktoken.Encoding(
                kind, pat_str=TIKTOKEN_SPLIT.format(digits=digits), mergeable_ranks=ranks, special_tokens={}
            )
        except ValueError as error:
            raise UserError(f"lm.path: {file} is not a tiktoken file: {error}") from error
        self._nfc = kind == "QWenTokenizer"
        self._marks = read_marks(file.parent, kind=kind, size=self.size, pieces={})
        self.special = self._marks.ids
        self.unknown_id: int | None = None

    def encode(self, text: str) -> list[int]:
        return self._encoding.encode_ordinary(unicodedata.normalize("NFC", text) if self._nfc else text)

    def encode_marked(self, text: str) -> list[int]:
        text = unicodedata.normalize("NFC", text) if self._nfc else text
        return [i for part in self._marks.split(text) for i in ([part] if isinstance(part, int) else self.encode(part))]

    def decode(self, ids: Sequence[int]) -> str:
        return self._encoding.decode([i for i in ids if i in self._known], errors="replace")

    def id_of(self, token: str) -> int | None:
        named = self._marks.id_of(token)
        if named is not None:
            return named
        found = self.encode(token)
        return found[0] if len(found) == 1 else None


def read_codec(folder: Path) -> Codec:
    """The tokenizer of a checkpoint folder, told by the files and by what they hold: GLM-4 calls a tiktoken file
    tokenizer.model. Where there is a tokenizer.json too, both must encode SENTENCES alike. Raises UserError."""
    fast = folder / "tokenizer.json"
    found = [
        folder / name for name in ("tokenizer.model", "spiece.model", "qwen.tiktoken") if (folder / name).is_file()
    ]
    if not found and not fast.is_file():
        raise UserError(
            f"lm.path: {folder} has neither tokenizer.model nor tokenizer.json (nor spiece.model nor "
            "qwen.tiktoken): copy the checkpoint's own tokenizer files into it"
        )
    if not found:
        return TokenizerJson.read(fast)
    codec = _read_file(found[0])
    if fast.is_file():
        other = TokenizerJson.read(fast)
        for sample in SENTENCES:
            if codec.encode(sample) != other.encode(sample):
                raise UserError(
                    f"lm.path: {found[0].name} and tokenizer.json in {folder} encode {sample!r} "
                    "differently: keep the one this checkpoint was trained with"
                )
    return codec


def _read_file(file: Path) -> SentencePiece | Tiktoken:
    if file.suffix == ".tiktoken":
        return Tiktoken(file, kind="QWenTokenizer")
    with file.open("rb") as opened:
        first = opened.readline(200)
    if re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\r?\n", first):
        kind = tokenizer_class(file.parent)
        return Tiktoken(file, kind=kind if kind in FOLLOWING and kind != "ChatGLMTokenizer" else "ChatGLM4Tokenizer")
    return SentencePiece(file)
