"""The tokenizer of a language model: a codec and its special ids, read from a checkpoint or trained on reports."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from r2gen.errors import UserError
from r2gen.lm.chat_template import ChatTemplate, read_chat_template
from r2gen.lm.codecs import SENTENCES, Codec, TokenizerJson, read_codec
from r2gen.lm.marks import NAMED, read_json, tokenizer_class

PAD, BOS, EOS = "<pad>", "<s>", "</s>"  # ids 0, 1, 2 of a tokenizer trained here
BYTES = 256
SENTENCE = SENTENCES[0]  # must come back from its ids


class ReportTokenizer:
    """A tokenizer and the special ids of its language model.

    `eos_ids[0]` ends a report in training, any of `eos_ids` ends one in decoding; `pad_id` fills what a mask hides.
    `stop_texts` end a report too, but are no single token: see `cut`.
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
    ) -> None:
        self.codec = codec
        self.bos_id, self.eos_ids, self.pad_id = bos_id, eos_ids, pad_id
        self.stop_texts = stop_texts
        self.chat_template = chat_template
        self.vocabulary_size = codec.size

    @property
    def end_id(self) -> int:
        return self.eos_ids[0]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """All ids that end a report in decoding."""
        return self.eos_ids

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text: nothing is added, nothing in it is taken for a special token."""
        return self.codec.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special ones among them are dropped."""
        return self.codec.decode(ids)

    def cut(self, text: str) -> tuple[str, bool]:
        """A decoded report up to the first of `stop_texts`, and whether there was one."""
        places = [place for stop in self.stop_texts if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)


def train_tokenizer(reports: Iterable[str], vocabulary_size: int) -> ReportTokenizer:
    """A byte-level BPE tokenizer of at most `vocabulary_size` ids whose merges stay within words.

    Every text round-trips, since all 256 bytes are in it. The same reports give the same tokenizer. Raises UserError
    where the size leaves no room for the bytes.
    """
    special = [PAD, BOS, EOS]
    if vocabulary_size < BYTES + len(special):
        raise UserError(
            f"lm.vocabulary_size={vocabulary_size}: give at least {BYTES + len(special)}, "
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
    """Write a tokenizer made by train_tokenizer into a folder that read_tokenizer reads."""
    if not isinstance(tokenizer.codec, TokenizerJson):
        raise TypeError("only a tokenizer trained here is saved; a checkpoint keeps its own")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.codec.tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def read_tokenizer(
    folder: Path, *, stop: Sequence[str] = (), special_tokens: Mapping[str, str | int | None] | None = None
) -> ReportTokenizer:
    """The tokenizer of a checkpoint folder, or of one that save_tokenizer wrote.

    `stop` are further ends of a report. One that is a special token here becomes one of `eos_ids`, and the first such
    what a report is trained to end with, since a chat model ends its turn so; any other is one of `stop_texts`.
    `special_tokens` names (or numbers) bos, eos and pad where the published files do not or are wrong. Raises UserError
    where the folder has no tokenizer, its two files disagree, a sentence does not come back, or no end sign is named.
    """
    codec = read_codec(folder)
    _check_round_trip(codec, folder)
    files = [read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")]
    facts = [read_json(folder / "generation_config.json"), read_json(folder / "config.json")]
    kind = tokenizer_class(folder)
    chosen = {
        name: [_chosen(name, token, codec)] for name, token in (special_tokens or {}).items() if token is not None
    }
    bos = chosen.get("bos") or _special_ids("bos", codec, files, facts)
    eos = _special_ids("eos", codec, files, facts) or _by_format("eos", codec, kind)
    pad = (
        chosen.get("pad")
        or _special_ids("pad", codec, [], facts)
        or _special_ids("pad", codec, files, [])
        or _by_format("pad", codec, kind)
    )
    tokens = {text: i for text in stop if (i := codec.id_of(text)) in codec.special and i is not None}
    eos = [*chosen.get("eos", []), *tokens.values(), *eos]
    if not eos:
        raise UserError(
            f"lm.path: {folder} names no end sign (eos_token in tokenizer_config.json, eos_token_id in "
            "config.json): name one with lm.special_tokens={eos: TOKEN}"
        )
    return ReportTokenizer(
        codec,
        bos_id=next(iter(bos), None),
        eos_ids=tuple(dict.fromkeys(eos)),
        pad_id=(pad or eos)[0],
        stop_texts=tuple(text for text in stop if text not in tokens),
        chat_template=read_chat_template(folder),
    )


def _check_round_trip(codec: Codec, folder: Path) -> None:
    ids = codec.encode(SENTENCE)
    if codec.unknown_id not in ids and codec.decode(ids).strip() != SENTENCE:
        raise UserError(
            f"lm.path: the tokenizer of {folder} gives {codec.decode(ids)!r} back for {SENTENCE!r}: its "
            "files do not belong together, or are not a report writer's"
        )


def _chosen(name: str, token: str | int, codec: Codec) -> int:
    found = token if isinstance(token, int) else codec.id_of(token)
    if found is None or found < 0:
        raise UserError(f"lm.special_tokens.{name}={token!r} is not one token of this checkpoint")
    return found


def _by_format(kind: str, codec: Codec, tokenizer_kind: str) -> list[int]:
    """What the Python of a published format says; asked only where its files say nothing."""
    found = (codec.id_of(token) for token in NAMED.get(tokenizer_kind, {}).get(kind, ()))
    return [i for i in found if i is not None]


def _special_ids(kind: str, codec: Codec, files: list[dict[str, Any]], facts: list[dict[str, Any]]) -> list[int]:
    """Ids of a special token: the one the tokenizer's files name, then those the model's files number."""
    found: list[Any] = []
    for names in files:
        named = names.get(f"{kind}_token")
        token = named.get("content") if isinstance(named, dict) else named
        found += [codec.id_of(token)] if token is not None else []
    for fact in facts:
        numbered = fact.get(f"{kind}_token_id")
        found += numbered if isinstance(numbered, list) else [numbered]
    return list(dict.fromkeys(i for i in found if i is not None and i >= 0))  # LLaMA-1 has pad_token_id -1
