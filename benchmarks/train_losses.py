"""The losses of two configurations from the same seed, step by step: `benchmarks/train.py --losses STEPS A:... B:...`.

Each word A:KEY=VALUE or B:KEY=VALUE is an override of run.py for one of the two, and a word without A: or B: for both.
For each family a small random language model is written as the family publishes it, and trained on phantoms through
`python run.py`. Writes losses.csv and losses.png to the scratch folder. On a GPU run.py trains in bf16, on the CPU in
fp32.
"""

import argparse
import csv
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 2_000
# Heads are 64 wide, so that those of a 7B model and these have the same kernels of attention.
SHARED = {"hidden_size": 256, "num_attention_heads": 4, "tie_word_embeddings": False}
LLAMA = {"num_hidden_layers": 4, "intermediate_size": 704, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
SMALL: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SHARED, **LLAMA},
    "chatglm": {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        **SHARED,
        "num_layers": 4,
        "ffn_hidden_size": 704,
        "kv_channels": 64,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "padded_vocab_size": VOCABULARY,
        "seq_length": 2048,
        "layernorm_epsilon": 1e-5,
        "add_qkv_bias": True,
        "add_bias_linear": False,
        "rmsnorm": True,
        "original_rope": True,
        "post_layer_norm": True,
        "apply_residual_connection_post_layernorm": False,
    },
    "gemma2": {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        **SHARED,
        **LLAMA,
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "sliding_window": 64,  # shorter than most samples
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    },
    "t5": {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "d_model": 256,
        "d_ff": 704,
        "d_kv": 32,
        "num_layers": 4,
        "num_decoder_layers": 4,
        "num_heads": 8,
        "vocab_size": VOCABULARY,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
    },
}
PANEL_PX = (640, 360)
COLOURS = {"A": "#1f77b4", "B": "#ff7f0e"}


def compare_losses(options: argparse.Namespace) -> int:
    """Train each family with A and with B, print the largest difference, and write the table and the plot."""
    overrides: dict[str, list[str]] = {"A": [], "B": []}
    for word in options.rows:
        names = [word[0]] if word[:2] in ("A:", "B:") else ["A", "B"]
        for name in names:
            overrides[name] += [word.removeprefix(f"{name}:")] if word not in ("A:", "B:") else []
    losses: dict[str, dict[str, list[float]]] = {}
    failed = False
    for family in options.families.split(","):
        curves = {name: train(options, family, name, overrides[name]) for name in ("A", "B")}
        if not all(curves.values()):
            failed = True
            continue
        losses[family] = curves
        differences = relative(curves)
        print(
            f"{family}: loss {curves['A'][0]:.4f} to {curves['A'][-1]:.4f} (A) and {curves['B'][-1]:.4f} (B) in "
            f"{len(differences)} steps; relative difference at most {max(differences):.2e} (step "
            f"{differences.index(max(differences)) + 1}), {differences[0]:.2e} at the first, "
            f"{differences[-1]:.2e} at the last, mean {sum(differences) / len(differences):.2e}",
            flush=True,
        )
        write_table(options.scratch / "losses.csv", losses)
        draw(options.scratch / "losses.png", losses, overrides)
    return 1 if failed else 0


def train(options: argparse.Namespace, family: str, name: str, overrides: Sequence[str]) -> list[float]:
    """The loss of each step; empty if the training failed, which is printed."""
    from decode_models import tokenizer_of_reports
    from train import run_logged  # train.py imports this module
    from train_files import write_lm

    folder, run_dir = options.scratch / f"small-{family}", options.scratch / "run"
    if not (folder / "config.json").exists():
        write_lm(folder, SMALL[family], tokenizer_of_reports(VOCABULARY), device="cpu")
    shutil.rmtree(run_dir, ignore_errors=True)
    settings = {
        "lm": "llama2",
        "lm.path": folder,
        "lm.family": "null",
        "lm.attention": "auto",
        "run_dir": run_dir,
        "data.val_studies": 0,
        "data.test_studies": 0,
        "evaluate.splits": "[val]",
        "metrics": "[findings]",  # which needs no Java
        "trainer.max_steps": options.losses,
        "trainer.epochs": 1000,
        "trainer.log_every_steps": 1,
    }
    if options.tiny:
        settings |= {"trainer.batch_size": 4, "trainer.micro_batch_size": 4, "data.train_studies": 32}
    words = {
        word.partition("=")[0]: word for word in [*(f"{key}={value}" for key, value in settings.items()), *overrides]
    }
    log = options.logs / f"losses-{family}-{name}.log"
    command = [sys.executable, str(ROOT / "run.py"), *words.values()]
    failed = run_logged(command, log=log, limit_s=options.limit, folder=options.scratch)
    if failed:
        print(f"{family} {name}: {failed} (see {log})", flush=True)
        return []
    lines = map(json.loads, (run_dir / "train.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if line["event"] == "step"]


def relative(curves: dict[str, list[float]]) -> list[float]:
    return [abs(a - b) / a for a, b in zip(curves["A"], curves["B"], strict=True)]


def write_table(file: Path, losses: dict[str, dict[str, list[float]]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["family", "step", "A", "B", "relative"])
        for family, curves in losses.items():
            for step, (a, b, difference) in enumerate(zip(curves["A"], curves["B"], relative(curves), strict=True), 1):
                writer.writerow([family, step, a, b, f"{difference:.3e}"])


def draw(file: Path, losses: dict[str, dict[str, list[float]]], overrides: dict[str, list[str]]) -> None:
    """A panel for each family: both curves, and the relative difference below them on a logarithmic scale."""
    width, height = PANEL_PX
    image = Image.new("RGB", (width, height * len(losses)), "white")
    pen = ImageDraw.Draw(image)
    for number, (family, curves) in enumerate(losses.items()):
        top = number * height
        values = [*curves["A"], *curves["B"]]
        low, high = min(values), max(values) + 1e-9
        differences = [max(value, 1e-8) for value in relative(curves)]
        steps = len(differences)
        for name, curve in curves.items():
            heights = [(value - low) / (high - low) for value in curve]
            line(pen, heights, box=(60, top + 30, width - 10, top + 210), colour=COLOURS[name])
            own = " ".join(word for word in overrides[name] if word not in overrides["B" if name == "A" else "A"])
            pen.text((180 if name == "A" else 400, top + 8), f"{name}: {own}", fill=COLOURS[name])
        pen.text((8, top + 8), f"{family}, {steps} steps", fill="black")
        pen.text((8, top + 28), f"{high:.3f}", fill="black")
        pen.text((8, top + 200), f"{low:.3f}", fill="black")
        lowest = math.floor(math.log10(min(differences))) - 1
        heights = [1 - math.log10(min(1, value)) / lowest for value in differences]
        line(pen, heights, box=(60, top + 230, width - 10, top + 340), colour="black")
        pen.text((8, top + 228), "1", fill="black")
        pen.text((8, top + 330), f"1e{lowest}", fill="black")
        pen.text((180, top + 214), f"relative difference, at most {max(differences):.1e}", fill="black")
    image.save(file)


def line(pen: ImageDraw.ImageDraw, heights: Sequence[float], *, box: tuple[int, int, int, int], colour: str) -> None:
    """Draw values of 0 to 1 from left to right in a frame."""
    left, top, right, bottom = box
    pen.rectangle(box, outline="#cccccc")
    apart = (right - left) / max(1, len(heights) - 1)
    pen.line([(left + apart * i, bottom - (bottom - top) * y) for i, y in enumerate(heights)], fill=colour, width=1)
