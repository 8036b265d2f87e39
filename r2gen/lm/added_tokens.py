"""The special tokens that the files of a tokenizer put before and after every text, such as a BOS token."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2gen.lm.codecs import Codec, SentencePiece, TokenizerJson

TEXT = "a"


def added_around(
    codec: Codec, names: Mapping[str, Any], *, bos: Sequence[int], eos: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The ids before and after a text; `names` is tokenizer_config.json, `bos` and `eos` begin with the ids to use.

    tokenizer.json says them itself. With a sentencepiece file the slow tokenizers add a BOS token, and T5's, which has
    none, an EOS token, unless add_bos_token and add_eos_token say otherwise.
    """
    before, after = _of_tokenizer_json(codec) if isinstance(codec, TokenizerJson) else ([], [])
    is_slow = isinstance(codec, SentencePiece)
    if not before and names.get("add_bos_token", is_slow) is True:
        before = list(bos[:1])
    if not after and names.get("add_eos_token", is_slow and not bos) is True:
        after = list(eos[:1])
    return before, after


def _of_tokenizer_json(codec: TokenizerJson) -> tuple[list[int], list[int]]:
    plain = codec.encode(TEXT)
    ids = codec.tokenizer.encode(TEXT, add_special_tokens=True).ids
    starts = [start for start in range(len(ids)) if ids[start : start + len(plain)] == plain]
    return (ids[: starts[0]], ids[starts[0] + len(plain) :]) if starts else ([], [])
