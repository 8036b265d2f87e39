"""The special tokens of a checkpoint by name, and where they stand in a text that may hold them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.errors import UserError

# Special tokens that only the Python of a published format names; they follow the tokenizer file's own ids, in order.
FOLLOWING: dict[str, tuple[str, ...]] = {
    # THUDM/chatglm2-6b and chatglm3-6b, tokenization_chatglm.py; the last four are ChatGLM3's
    "ChatGLMTokenizer": (
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "sop",
        "eop",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    # THUDM/glm-4-9b-chat, tokenizer_config.json; for a copy without that file
    "ChatGLM4Tokenizer": (
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    # Qwen/Qwen-7B-Chat, tokenization_qwen.py
    "QWenTokenizer": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
}
# What bos, eos and pad are where no file of the published format says so; the first eos ends a report in training.
NAMED: dict[str, dict[str, tuple[str, ...]]] = {
    "ChatGLMTokenizer": {"eos": ("</s>",), "pad": ("<unk>",)},
    "ChatGLM4Tokenizer": {"eos": ("<|endoftext|>", "<|user|>", "<|observation|>"), "pad": ("<|endoftext|>",)},
    "QWenTokenizer": {"eos": ("<|endoftext|>",), "pad": ("<|endoftext|>",)},
}
CLASS_OF_MODEL = {"qwen": "QWenTokenizer", "chatglm": "ChatGLMTokenizer"}  # by model_type, without tokenizer_config


@dataclass(frozen=True)
class Mark:
    """One special token; `lstrip` and `rstrip` say that it swallows the white space before and after it."""

    id: int
    lstrip: bool = False
    rstrip: bool = False


class Marks:
    """Special tokens by name. In a report none of them is recognised; in a chat template all are."""

    def __init__(self, marks: Mapping[str, Mark]) -> None:
        self.by_name = dict(marks)
        self.ids = frozenset(mark.id for mark in marks.values())
        longest_first = sorted(self.by_name, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(self._with_space, longest_first)))

    def id_of(self, name: str) -> int | None:
        mark = self.by_name.get(name)
        return None if mark is None else mark.id

    def split(self, text: str) -> Iterator[str | int]:
        """The stretches of a text between special tokens, and the ids of these, in order; empty stretches left out."""
        start = 0
        for found in self._pattern.finditer(text) if self.by_name else ():
            if found.start() > start:
                yield text[start : found.start()]
            mark = self.by_name.get(found.group()) or self.by_name[found.group().strip()]
            yield mark.id
            start = found.end()
        if start < len(text):
            yield text[start:]

    def _with_space(self, name: str) -> str:
        mark = self.by_name[name]
        return (r"\s*" if mark.lstrip else "") + re.escape(name) + (r"\s*" if mark.rstrip else "")


def tokenizer_class(folder: Path) -> str:
    """The published format's own name: `tokenizer_class`, or what config.json implies where it is missing."""
    named = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    return str(named or CLASS_OF_MODEL.get(str(read_json(folder / "config.json").get("model_type")), ""))


def read_marks(folder: Path, *, kind: str, size: int, pieces: Mapping[str, int]) -> Marks:
    """The special tokens of a checkpoint: those its files list, then `pieces` of the tokenizer file itself, then those
    that follow the file's `size` ids by the published format `kind`, as far as the weights have rows for them."""
    config = read_json(folder / "config.json")
    rows = config.get("padded_vocab_size") or config.get("vocab_size") or float("inf")
    following = {name: Mark(size + i) for i, name in enumerate(FOLLOWING.get(kind, ())) if size + i < rows}
    marks = following | {name: Mark(i) for name, i in pieces.items()}
    marks |= {name: Mark(i) for name, i in read_json(folder / "added_tokens.json").items()}
    for i, token in read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        marks[token["content"]] = Mark(int(i), bool(token.get("lstrip")), bool(token.get("rstrip")))
    return Marks(marks)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON dictionary, empty where there is no such file. Raises UserError where it is something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"lm.path: {file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"lm.path: {file} is not a JSON dictionary")
    return found
