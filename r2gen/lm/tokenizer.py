"""The tokenizer of a language model: a codec and the ids of its special tokens, read or trained on reports."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from r2gen.config.prompt_pieces import MESSAGE
from r2gen.errors import UserError, shown
from r2gen.lm.added_tokens import added_around
from r2gen.lm.chat_template import ChatTemplate, read_chat_template
from r2gen.lm.checkpoint import read_json
from r2gen.lm.codecs import SENTENCES, Codec, TokenizerJson
from r2gen.lm.special_tokens import tokenizer_format
from r2gen.lm.tokenizer_files import read_codec, tokenizer_files
from r2gen.runs.trial import attempt, attempted

PAD, BOS, EOS = "<pad>", "<s>", "</s>"  # ids 0, 1, 2 of a trained tokenizer
UNKNOWN = "<unk>"  # id 3 of one of words
BYTES = 256
LARGEST_FILE = 2**28
# Texts on which the pattern and the normalizer of a hostile file take long; those of published files take milliseconds.
TRIED = (
    *SENTENCES,
    *(piece * (2000 // len(piece)) for piece in ("a", "A", " ", "7", "-", "\n", "a ", "ab, ", "心", SENTENCES[0])),
    " ".join(f"{SENTENCES[0][:i]}{i}!" for i in range(60)),
)


class ReportTokenizer:
    """A tokenizer and the ids of the special tokens of its language model.

    A report ends with `eos_ids[0]` in training, and with any of `eos_ids` in decoding. `pad_id` fills masked positions.
    `stop_texts` end a report too, but are not single tokens: see `cut`. `around_text` are the ids that the tokenizer's
    files put before and after a text. `never_ids` are not generated: the unknown token of a vocabulary of words.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bos_id: int | None,
        eos_ids: tuple[int, ...],
        pad_id: int,
        stop_texts: tuple[str, ...] = (),
        chat_template: ChatTemplate | None = None,
        around_text: tuple[list[int], list[int]] = ([], []),
    ) -> None:
        self.codec = codec
        self.bos_id, self.eos_ids, self.pad_id = bos_id, eos_ids, pad_id
        self.stop_texts = stop_texts
        self.chat_template = chat_template
        self.around_text = around_text
        self.vocabulary_size = codec.size
        of_words = isinstance(codec, TokenizerJson) and isinstance(codec.tokenizer.model, models.WordLevel)
        self.never_ids = (codec.unknown_id,) if of_words and codec.unknown_id is not None else ()

    @property
    def eos_id(self) -> int:
        """The id of the EOS token in training."""
        return self.eos_ids[0]

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text, without added tokens; no special token is recognised in it."""
        return self.codec.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return self.codec.decode(ids)

    def cut(self, text: str) -> tuple[str, bool]:
        """A decoded report up to the first of `stop_texts`, and whether it contains one."""
        starts = [start for stop in self.stop_texts if (start := text.find(stop)) >= 0]
        return (text[: min(starts)], True) if starts else (text, False)


def train_tokenizer(reports: Iterable[str], vocabulary_size: int) -> ReportTokenizer:
    """Train a byte-level BPE tokenizer with at most `vocabulary_size` ids and no merges across words.

    Every text round-trips, since all 256 bytes are tokens. The same reports give the same tokenizer. Raises UserError
    if the vocabulary is too small for the bytes.
    """
    special = [PAD, BOS, EOS]
    if vocabulary_size < BYTES + len(special):
        raise UserError(
            f"lm.vocabulary_size={vocabulary_size}: give at least {BYTES + len(special)}, for "
            "256 bytes and 3 special tokens"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(reports, trainer)
    return ReportTokenizer(TokenizerJson(tokenizer), bos_id=1, eos_ids=(2,), pad_id=0)


def save_tokenizer(tokenizer: ReportTokenizer, folder: Path) -> None:
    """Write a tokenizer that train_tokenizer or train_words made into a folder, for read_tokenizer."""
    if not isinstance(tokenizer.codec, TokenizerJson):
        raise TypeError("only a tokenizer trained here can be saved")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.codec.tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    names |= {"unk_token": UNKNOWN} if tokenizer.never_ids else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def read_tokenizer(
    folder: Path,
    *,
    stop: Sequence[str] | None = (),
    special_tokens: Mapping[str, str | int | None] | None = None,
    tried: bool = False,
) -> ReportTokenizer:
    """The tokenizer of a checkpoint folder, or of a folder that save_tokenizer wrote.

    `stop` are further texts that end a report. A special token among them becomes one of `eos_ids`, and the first one
    ends the reports in training, because a chat model ends its turn with it; any other becomes one of `stop_texts`.
    None is what ends an answer in the chat template.
    `special_tokens` gives bos, eos and pad by name or id, for published files that lack them or are wrong. The files
    are tried first (tokenizer_tried), unless `tried` says that they were.

    Raises UserError if the folder has no tokenizer, if its two files disagree, if a sentence does not round-trip, or if
    no file names an EOS token.
    """
    if not tried:
        with tokenizer_tried(folder):
            pass
    codec = read_codec(folder)
    by_name = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    config = read_json(folder / "config.json")
    text = config.get("text_config")  # of a multimodal checkpoint
    by_id = [read_json(folder / "generation_config.json"), config, text if isinstance(text, dict) else {}]
    published = tokenizer_format(folder)
    chosen = {
        name: [_chosen_id(name, token, codec)] for name, token in (special_tokens or {}).items() if token is not None
    }
    bos = chosen.get("bos") or [*_named("bos", codec, by_name), *_numbered("bos", by_id)]
    eos = [*_named("eos", codec, by_name), *_numbered("eos", by_id)] or _ids_of(published.eos, codec)
    pad = chosen.get("pad") or _numbered("pad", by_id) or _named("pad", codec, by_name) or _ids_of(published.pad, codec)
    chat_template = read_chat_template(folder)
    ends = [] if stop is not None or chat_template is None else _ends_of_answer(chat_template, codec)
    stop = stop or ()
    tokens = {text: i for text in stop if (i := codec.id_of(text)) in codec.special_ids and i is not None}
    eos = [*chosen.get("eos", []), *tokens.values(), *ends, *eos]
    if not eos:
        raise UserError(
            f"lm.path: {folder} names no EOS token (eos_token in tokenizer_config.json, eos_token_id in "
            "config.json): name one with lm.special_tokens={eos: TOKEN}"
        )
    return ReportTokenizer(
        codec,
        bos_id=next(iter(bos), None),
        eos_ids=tuple(dict.fromkeys(eos)),
        pad_id=(pad or eos)[0],
        stop_texts=tuple(text for text in stop if text not in tokens),
        chat_template=chat_template,
        around_text=added_around(codec, by_name, bos=bos, eos=eos),
    )


def _ends_of_answer(template: ChatTemplate, codec: Codec) -> list[int]:
    """The special token that follows an answer in the chat template; empty if none does."""

    def work() -> list[int]:
        ids = codec.encode_with_special_tokens(template.turn(MESSAGE).end.strip())
        return [i for i in ids[:1] if i in codec.special_ids]

    ids: list[int] = attempt(work, template.refusal)
    return ids


@contextmanager
def tokenizer_tried(folder: Path) -> Iterator[None]:
    """Encode and decode in a child process while the context lasts: a pattern may backtrack without end, and a
    normalizer may grow a text without bound. Raises UserError that names the files, at the end."""
    files = [str(file) for file in tokenizer_files(folder)]
    for file in files:
        if Path(file).stat().st_size > LARGEST_FILE:
            raise UserError(f"lm.path: {file} is larger than {LARGEST_FILE // 2**20} MiB, which no tokenizer needs")

    def work() -> None:
        codec = read_codec(folder)
        _check_round_trip(codec, folder)
        for text in TRIED:
            codec.encode_with_special_tokens(text)
            codec.decode(codec.encode(text))

    def refusal(why: str) -> UserError:
        return UserError(
            f"lm.path: the tokenizer in {' and '.join(files)} cannot be used ({why}): copy the checkpoint's own "
            "tokenizer files into the folder"
        )

    with attempted(work, refusal) as result:
        yield
        result()


def _check_round_trip(codec: Codec, folder: Path) -> None:
    sentence = SENTENCES[0]
    ids = codec.encode(sentence)
    if codec.unknown_id not in ids and codec.decode(ids).strip() != sentence:
        raise UserError(
            f"lm.path: the tokenizer of {folder} ({', '.join(file.name for file in tokenizer_files(folder))}) decodes "
            f"{sentence!r} to {codec.decode(ids)!r:.200}: its files do not belong together, or it is not made for text "
            "generation"
        )


def _chosen_id(name: str, token: str | int, codec: Codec) -> int:
    i = token if isinstance(token, int) else codec.id_of(token)
    if i is None or i < 0:
        raise UserError(
            f"lm.special_tokens.{name}={token!r} is not one token of this checkpoint: give a token in its tokenizer "
            "file, or an id"
        )
    return i


def _named(kind: str, codec: Codec, names: Mapping[str, Any]) -> list[int]:
    """The id of the special token that the tokenizer's files name."""
    named = names.get(f"{kind}_token")
    token = named.get("content") if isinstance(named, dict) else named
    if token is not None and not isinstance(token, str):
        raise UserError(
            f"lm.path: {kind}_token in tokenizer_config.json or special_tokens_map.json is {shown(token)}, not a text"
        )
    return [] if token is None else _ids_of([token], codec)


def _numbered(kind: str, files: Sequence[Mapping[str, Any]]) -> list[int]:
    """The ids of a special token in the model's files; LLaMA-1 has a pad_token_id of -1."""
    numbers: list[Any] = []
    for file in files:
        number = file.get(f"{kind}_token_id")
        numbers += number if isinstance(number, list) else [number]
    for number in numbers:
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise UserError(
                f"lm.path: {kind}_token_id in generation_config.json or config.json is {shown(number)}, not a number"
            )
    return [i for i in numbers if i is not None and i >= 0]


def _ids_of(tokens: Iterable[str], codec: Codec) -> list[int]:
    """The ids of those tokens that the codec has."""
    return [i for token in tokens if (i := codec.id_of(token)) is not None]
