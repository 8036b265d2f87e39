"""Write small language models to try options with:  python benchmarks/small_checkpoints.py FOLDER

FOLDER/chatglm3 and FOLDER/llama2 have the files of ChatGLM3-6B and Llama-2-7B as they are published (config.json,
tensor names, sentencepiece tokenizer), with two narrow layers of random weights. So
`lm=chatglm3 lm.path=FOLDER/chatglm3` does what it does with the real weights, in seconds and without a download.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from quantisation_shapes import SHAPES, TINY
from transformers import AutoConfig, AutoModelForCausalLM

from r2gen.data.phantom import VERSION, Phantom
from r2gen.lm import families
from r2gen.lm.library_logs import quiet_transformers

PIECES, ROWS, EOS = 300, 320, 2  # of the vocabulary, and of the embedding matrix, which has room for special tokens
PROMPT = "Human: <Img></Img> Generate a comprehensive and detailed diagnosis report for this chest xray image."
TOKENIZERS = {"chatglm3": "ChatGLMTokenizer", "llama2": "LlamaTokenizer"}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # of DeepSpeed, which transformers imports: otherwise it warns
    phantom = Phantom(train_studies=400, val_studies=0, test_studies=0, size_px=32, version=VERSION)
    reports = [study.report for study in phantom.studies("train")]
    tokenizer = train_tokenizer(reports)
    for name in TOKENIZERS:
        write(Path(sys.argv[1]) / name, name, tokenizer)


def train_tokenizer(reports: list[str]) -> bytes:
    """A sentencepiece model of reports and the prompt, with <unk>, <s> and </s> as its first pieces."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*reports, PROMPT]),
        model_writer=file,
        vocab_size=PIECES,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        minloglevel=2,
    )
    return file.getvalue()


def write(folder: Path, name: str, tokenizer: bytes) -> None:
    """A checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"padded_vocab_size" if name == "chatglm3" else "vocab_size": ROWS}
    published: dict[str, Any] = {**SHAPES[name], **TINY[name], **rows, "eos_token_id": EOS, "pad_token_id": 0}
    text = json.dumps(published, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    families.register(published["model_type"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():  # no report ends before its first word
        model.get_output_embeddings().weight[[EOS, *range(PIECES, ROWS)]] = 0
    with quiet_transformers():
        model.save_pretrained(folder)
    (folder / "config.json").write_text(text, encoding="utf-8")  # as published, without what transformers adds
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "tokenizer.model").write_bytes(tokenizer)
    settings = json.dumps({"tokenizer_class": TOKENIZERS[name]}) + "\n"
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    print(f"{folder}: {sum(parameter.numel() for parameter in model.parameters()):,} random weights")


if __name__ == "__main__":
    main()
