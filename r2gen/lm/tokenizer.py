"""Text to token ids and back: one class over sentencepiece files, tokenizer.json files and tokenizers trained here."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from r2gen.errors import UserError

PAD, BOS, EOS = "<pad>", "<s>", "</s>"  # ids 0, 1, 2 of a tokenizer trained here
BYTES = 256
# Both files of a checkpoint must agree on these.
SAMPLES = (
    "The heart size is normal. No pleural effusion or pneumothorax is seen.",
    "  two spaces, ET tube 4.5 cm above the carina (T4);\nIMPRESSION: 1. stable\t___ no acute disease ",
    "Übergröße 心脏 \U0001f600",
)


class Codec(Protocol):
    """A tokenizer file: no special tokens are added, and none is recognised in a text."""

    size: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def id_of(self, token: str) -> int | None: ...


class SentencePiece:
    """`tokenizer.model`, encoded and decoded by sentencepiece itself.

    transformers 5.23 ignores the file's add_dummy_prefix, and its decoder replaces a whole run of byte tokens that is
    not valid UTF-8 where sentencepiece replaces the bad bytes only.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._processor = SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise UserError(f"lm.path: {file} is not a sentencepiece file: {error}") from error
        self.size = int(self._processor.get_piece_size())
        self._special = frozenset(
            i for i in range(self.size) if self._processor.is_control(i) or self._processor.is_unknown(i)
        )

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The stretches between special ids, joined without a space; ids beyond the file (padded rows) are dropped."""
        known = [i for i in ids if 0 <= i < self.size]
        stretches = groupby(known, key=self._special.__contains__)
        return "".join(self._processor.decode(list(stretch)) for special, stretch in stretches if not special)

    def id_of(self, token: str) -> int | None:
        i = int(self._processor.piece_to_id(token))
        return i if self._processor.id_to_piece(i) == token else None


class TokenizerJson:
    """`tokenizer.json`, or one trained here."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "</s>" in a report is text and must not end it
        tokenizer.no_truncation()  # published files may hold both
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def read(cls, file: Path) -> "TokenizerJson":
        try:
            return cls(Tokenizer.from_file(str(file)))
        except Exception as error:  # tokenizers raises nothing more precise
            raise UserError(f"lm.path: {file} is not a tokenizer file: {error}") from error

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)


class ReportTokenizer:
    """A tokenizer and the special ids of its language model.

    `eos_ids[0]` ends a report in training, any of `eos_ids` ends one in decoding; `pad_id` fills what a mask hides.
    """

    def __init__(self, codec: Codec, *, bos_id: int | None, eos_ids: tuple[int, ...], pad_id: int) -> None:
        self.codec = codec
        self.bos_id, self.eos_ids, self.pad_id = bos_id, eos_ids, pad_id
        self.vocabulary_size = codec.size

    @property
    def end_id(self) -> int:
        return self.eos_ids[0]

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text: nothing is added, nothing in it is taken for a special token."""
        return self.codec.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ones among them are dropped."""
        return self.codec.decode(ids)


def train_tokenizer(reports: Iterable[str], vocabulary_size: int) -> ReportTokenizer:
    """A byte-level BPE tokenizer of at most `vocabulary_size` ids whose merges stay within words.

    Every text round-trips, since all 256 bytes are in it. The same reports give the same tokenizer. Raises UserError
    where the size leaves no room for the bytes.
    """
    special = [PAD, BOS, EOS]
    if vocabulary_size < BYTES + len(special):
        raise UserError(f"lm.vocabulary_size={vocabulary_size}: give at least {BYTES + len(special)}, "
                        "256 bytes and 3 special tokens")  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, min_frequency=2, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(reports, trainer)
    return ReportTokenizer(TokenizerJson(tokenizer), bos_id=1, eos_ids=(2,), pad_id=0)


def save_tokenizer(tokenizer: ReportTokenizer, folder: Path) -> None:
    """Write a tokenizer made by train_tokenizer into a folder that read_tokenizer reads."""
    if not isinstance(tokenizer.codec, TokenizerJson):
        raise TypeError("only a tokenizer trained here is saved; a checkpoint keeps its own")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.codec.tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def read_tokenizer(folder: Path, *, stop: Sequence[str] = ()) -> ReportTokenizer:
    """The tokenizer of a checkpoint folder, or of one that save_tokenizer wrote.

    `stop` names further tokens that end a report. Raises UserError where the folder has no tokenizer, its two files
    disagree, no end sign is named, or a name of `stop` is not one token.
    """
    codec = _read_codec(folder)
    names = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    facts = [_read_json(folder / "generation_config.json"), _read_json(folder / "config.json")]
    bos = _special_ids("bos", codec, names, facts)
    eos = _special_ids("eos", codec, names, facts)
    pad = _special_ids("pad", codec, {}, facts) or _special_ids("pad", codec, names, [])
    if not eos:
        raise UserError(f"lm.path: {folder} names no end sign (eos_token in tokenizer_config.json, eos_token_id in "
                        "config.json)")  # fmt: skip
    for token in stop:
        i = codec.id_of(token)
        if i is None:
            raise UserError(f"lm.stop: {token!r} is not one token of {folder}")
        eos.append(i)
    return ReportTokenizer(
        codec, bos_id=next(iter(bos), None), eos_ids=tuple(dict.fromkeys(eos)), pad_id=(pad or eos)[0]
    )


def _read_codec(folder: Path) -> Codec:
    spm, fast = folder / "tokenizer.model", folder / "tokenizer.json"
    if not spm.is_file() and not fast.is_file():
        raise UserError(f"lm.path: {folder} has neither tokenizer.model nor tokenizer.json: copy the checkpoint's own "
                        "tokenizer files into it")  # fmt: skip
    if not spm.is_file():
        return TokenizerJson.read(fast)
    codec = SentencePiece(spm)
    if fast.is_file():
        other = TokenizerJson.read(fast)
        for sample in SAMPLES:
            if codec.encode(sample) != other.encode(sample):
                raise UserError(f"lm.path: tokenizer.model and tokenizer.json in {folder} encode {sample!r} "
                                "differently: keep the one this checkpoint was trained with")  # fmt: skip
    return codec


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"lm.path: {file} is not JSON: {error}") from error


def _special_ids(kind: str, codec: Codec, names: dict[str, Any], facts: list[dict[str, Any]]) -> list[int]:
    """Ids of a special token: the one the tokenizer's files name, then those the model's files number."""
    named = names.get(f"{kind}_token")
    token = named.get("content") if isinstance(named, dict) else named
    found = [codec.id_of(token)] if token is not None else []
    for fact in facts:
        numbered = fact.get(f"{kind}_token_id")
        found += numbered if isinstance(numbered, list) else [numbered]
    return list(dict.fromkeys(i for i in found if i is not None and i >= 0))  # LLaMA-1 has pad_token_id -1
