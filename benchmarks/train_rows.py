"""The rows of benchmarks/train.py: what a row's words mean, what a sample needs, and the table."""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

STACKS = ("reference", "plain", "ours")
QUANT = ("none", "int8", "nf4", "int8_weight_only", "fp8")
TUNE = {"shallow": "frozen", "delta": "lora", "deep": "full"}
PADDED = 167  # positions of a sample in the recipe of R2GenGPT when its speed was measured
SWIN_B_TFLOP = 2 * 15.4e9 / 1e12  # of one image (Liu et al. 2021, table 1)
ENCODER_PASSES = {"shallow": 1, "delta": 2, "deep": 3}  # forward, gradients of activations, and of weights
COLUMNS = {  # with the digits after the point
    "samples/s": 1,
    "+-": 1,
    "prompt": 0,
    "real": 1,
    "padded": 1,
    "TFLOP/s": 0,
    "bf16": 3,
    "fp8": 3,
    "peak GiB": 1,
    "start s": 1,
    "scaling": 2,
}


@dataclass(frozen=True)
class Row:
    text: str
    stack: str
    batch: int
    quant: str = "none"
    tune: str = "shallow"
    lora: bool = False
    data: str = "r2gengpt"
    gpus: int = 1
    zero: int | None = None
    precision: str | None = None
    compile: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Row":
        """Read STACK/BATCH/WORD/...; exits with a message if a word is unknown."""
        stack, _, rest = text.partition("/")
        batch, *words = rest.split("/")
        if stack not in STACKS or not batch.isdigit() or not int(batch):
            sys.exit(f"{text}: give STACK/BATCH/... with a stack of {', '.join(STACKS)}")
        read: dict[str, Any] = {"overrides": {}}
        for word in words:
            if "=" in word:
                key, _, value = word.partition("=")
                read["overrides"][key] = value
            elif word in QUANT:
                read["quant"] = word
            elif word in TUNE:
                read["tune"] = word
            elif word in ("lora", "compile"):
                read[word] = True
            elif word in ("fp16", "bf16"):
                read["precision"] = word
            elif word == "iu":
                read["data"] = word
            elif word.removeprefix("gpus").isdigit():
                read["gpus"] = int(word.removeprefix("gpus"))
            elif word in ("zero0", "zero1", "zero2", "zero3"):
                read["zero"] = int(word[-1])
            else:
                sys.exit(f"{text}: {word} is no word of a row, see --help")
        row = cls(text, stack, int(batch), **read)
        loop = row.quant != "none" or row.tune == "delta" or row.gpus > 1 or row.zero is not None or row.overrides
        if stack != "ours" and loop:
            sys.exit(f"{text}: only ours has quant, delta, several GPUs, ZeRO and overrides")
        return row

    def __str__(self) -> str:
        return self.text

    @property
    def on_one_gpu(self) -> str:
        """The text of the same row without words on GPUs and ZeRO."""
        return "/".join(word for word in self.text.split("/") if not word.startswith(("gpus", "zero")))

    @property
    def loop(self) -> dict[str, Any]:
        """The row as train_loops.py takes it."""
        return {
            "stack": self.stack,
            "batch": self.batch,
            "data": self.data,
            "precision": self.precision or ("fp16" if self.stack == "reference" else "bf16"),
            "lm": "lora" if self.lora else "frozen",
            "vision": TUNE[self.tune],
            "compile": self.compile,
            "padded": PADDED,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """The row's words as overrides of run.py."""
        settings: dict[str, Any] = {"tune": self.tune, "quant": self.quant}
        if self.lora:
            settings["tune/lm"] = "lora"
        if self.compile:
            settings["lm.compile"] = "true"
        if self.zero is not None:
            settings["trainer"] = f"zero{self.zero}"
        return settings | dict(self.overrides)


@dataclass(frozen=True)
class Measured:
    """One run of a row."""

    rates: Sequence[float] = ()  # samples/s of each window
    peak_gib: float = 0.0
    start_s: float = 0.0
    failed: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def sample_tflop(row: Row, lm: Mapping[str, Any], lengths: Sequence[int], *, prompt: int, tiny: bool) -> float:
    """The TFLOP that an average sample needs: see the head of train.py. The adapters of LoRA are not counted."""
    layers, width = lm["num_hidden_layers"], lm["hidden_size"]
    weights = layers * (4 * width**2 + 3 * width * lm["intermediate_size"])
    positions = [prompt + length for length in lengths]
    products = 4 * weights * mean(positions) + 4 * width * lm["vocab_size"] * mean(lengths)
    attention = 6 * layers * width * mean(n * n for n in positions)  # the causal half, forward and twice backward
    encoder = 0.0 if tiny else SWIN_B_TFLOP * ENCODER_PASSES[row.tune]
    return (products + attention) / 1e12 + encoder


def padded_tokens(row: Row, lengths: Sequence[int], *, prompt: int) -> float:
    """The positions of a sample if its batch is padded as the reference does, or to the longest in random order."""
    if row.stack == "reference":
        return max(PADDED, prompt + 1)
    drawn = random.Random(0)
    return prompt + mean(max(drawn.choices(lengths, k=row.batch)) for _ in range(500))


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; one without a figure has its reason."""
    first = max(len("row"), *(len(entry["row"]) for entry in entries))
    lines = ["  ".join(["row".ljust(first), *(f"{name:>{max(len(name), 6)}}" for name in COLUMNS)])]
    for entry in entries:
        cells = [entry["row"].ljust(first)]
        if "samples/s" in entry:
            for name, digits in COLUMNS.items():
                value = entry.get(name)
                cells.append(f"{'' if value is None else f'{value:.{digits}f}':>{max(len(name), 6)}}")
        lines.append("  ".join([*cells, *([entry["note"]] if entry["note"] else [])]))
    return "\n".join(lines)
