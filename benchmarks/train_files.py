"""The files of benchmarks/train.py: a language model and an encoder with random weights, images, and reports."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from decode_models import AFTER, BEFORE, STD, Size, tokenizer_of_reports
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.lm import families, save_tokenizer
from r2gen.lm.prompt import Prompt
from r2gen.lm.tokenizer import ReportTokenizer

ENCODER = "swin_base_patch4_window7_224"
IMAGES = 64  # different ones; every study has its own file, a hard link, so that it is decoded once per epoch
IMAGE_PX = (624, 512)  # height and width, about those of IU X-Ray as R2Gen distributes it
STUDIES = 8192
# Tokens of a report with its EOS token. R2GenGPT's speed was measured with 66 to 78, 72 on average.
MEASURED = range(66, 79)
# IU X-Ray in R2Gen's cleaning, about 1.33 tokens per word or punctuation mark: studies per 2,000 in bins of 8 tokens.
# Batches in random order, padded to the longest, have 1.27 (batch 8), 1.46 (32) and 1.56 times (64) the real tokens.
IU_BIN = 8
IU_X_RAY = {
    **{8: 1, 16: 65, 24: 256, 32: 363, 40: 362, 48: 316, 56: 219, 64: 148, 72: 106, 80: 66, 88: 40, 96: 23},
    **{104: 7, 112: 12, 120: 7, 128: 2, 136: 4, 144: 1, 160: 1, 192: 1, 216: 1},
}
DATA = ("r2gengpt", "iu")


@dataclass(frozen=True)
class Files:
    """Where the files are, and what a sample consists of."""

    scratch: Path

    @property
    def lm(self) -> Path:
        return self.scratch / "llama"

    @property
    def encoder(self) -> Path:
        return self.scratch / "swin"

    def data(self, name: str) -> Path:
        return self.scratch / f"data-{name}"


def write_files(scratch: Path, size: Size, *, device: str, studies: int = STUDIES) -> None:
    """Write them unless they are there; `facts.json`, written last, has the lengths of prompt and reports."""
    files, marker = Files(scratch), scratch / "facts.json"
    facts: dict[str, Any] = {"llama": size.llama, "studies": studies, "shorter": size.shorter}
    if marker.exists() and facts.items() <= json.loads(marker.read_text(encoding="utf-8")).items():
        return
    marker.unlink(missing_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of_reports(min(size.vocabulary, 2_000))
    published = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": size.vocabulary,
        "tie_word_embeddings": False,
        **size.llama,
    }
    write_lm(files.lm, published, tokenizer, device=device)
    write_encoder(files.encoder, size)
    prompt = Prompt(before=BEFORE, after=AFTER, bos=True).around(tokenizer, context=False)
    facts |= {"prompt": len(prompt.before) + len(prompt.after), "image": (size.swin["image_size"] // 32) ** 2}
    for name in DATA:
        facts[name] = write_data(files.data(name), name, tokenizer, studies=studies, shorter=size.shorter)
    marker.write_text(json.dumps(facts), encoding="utf-8")


def write_lm(folder: Path, published: dict[str, Any], tokenizer: ReportTokenizer, *, device: str) -> None:
    """Draw a model of this config.json on the device, and write it with the tokenizer as its family publishes it."""
    shutil.rmtree(folder, ignore_errors=True)
    save_tokenizer(tokenizer, folder)
    published = {**published, "bos_token_id": 1, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    text = json.dumps(published, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    families.register(published["model_type"])
    config = AutoConfig.from_pretrained(folder)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device(device):
        model = auto.from_config(config, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=STD)  # T5's would have deviation 1
    model.save_pretrained(folder, max_shard_size="4GB")
    (folder / "config.json").write_text(text, encoding="utf-8")  # as published, without what transformers adds
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_encoder(folder: Path, size: Size) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = timm.create_model(ENCODER, num_classes=0, **size.encoder)
    save_file(model.state_dict(), folder / "model.safetensors")


def write_data(folder: Path, name: str, tokenizer: ReportTokenizer, *, studies: int, shorter: int) -> list[int]:
    """Write an annotation and images; returns the tokens of each report with its EOS token."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        write_image(folder / "images" / f"drawn-{number}.jpg", random)
    lengths = [max(4, length // shorter) for length in draw_lengths(name, random, studies)]
    words = whole_words(tokenizer)
    entries = []
    for number, length in enumerate(lengths):
        image = f"{number}.jpg"
        os.link(folder / "images" / f"drawn-{number % IMAGES}.jpg", folder / "images" / image)
        report = write_words(tokenizer, words, random, length=length - 1)
        entries.append({"id": f"study-{number}", "report": report, "image_path": [image]})
    annotation = {"train": entries, "val": [], "test": []}
    (folder / "annotation.json").write_text(json.dumps(annotation), encoding="utf-8")
    return lengths


def draw_lengths(name: str, random: np.random.Generator, studies: int) -> list[int]:
    if name == "r2gengpt":
        return [int(length) for length in random.choice(np.array(MEASURED), studies)]
    starts, counts = np.array(list(IU_X_RAY)), np.array(list(IU_X_RAY.values()))
    return [
        int(n) for n in random.choice(starts, studies, p=counts / counts.sum()) + random.integers(IU_BIN, size=studies)
    ]


def write_image(file: Path, random: np.random.Generator) -> None:
    """A gray JPEG with shapes and grain, so that decoding takes as long as for a radiograph of this size."""
    height, width = IMAGE_PX
    coarse = Image.fromarray(random.integers(256, size=(height // 32, width // 32), dtype=np.uint8))
    grain = random.normal(0, 4, (height, width))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + grain
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def whole_words(tokenizer: ReportTokenizer) -> list[str]:
    """Words that are one token of the tokenizer after a space."""
    random = np.random.default_rng(1)
    text = " ".join(write_report(frozenset(FINDINGS), random) for _ in range(20))
    words = sorted({word for word in text.split() if word.isalpha()})
    return [word for word in words if len(tokenizer.encode(f" {word}")) == 1]


def write_words(tokenizer: ReportTokenizer, words: list[str], random: np.random.Generator, *, length: int) -> str:
    """A text of exactly this many tokens; its first word, without a space before it, may have several."""
    first = str(random.choice(words))
    rest = length - len(tokenizer.encode(first))
    while rest < 0:
        first = first[:-1]
        rest = length - len(tokenizer.encode(first))
    text = " ".join([first, *map(str, random.choice(words, rest))])
    if len(tokenizer.encode(text)) != length:
        raise ValueError(f"{text!r} has not {length} tokens")
    return text
