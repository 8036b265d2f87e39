"""Measure the cost of each quantisation of a language model:  python benchmarks/quantisation.py --lm FOLDER

    python benchmarks/quantisation.py --random chatglm3,llama2 --out /dev/shm/r2gen     write random 7B models first
    python benchmarks/quantisation.py --random llama2 --size tiny --device cpu          the same in seconds

Prints one table per checkpoint, each mode measured in a process of its own: seconds to load, memory, training samples/s
of a projector under the frozen model (forward, backward, AdamW), greedy reports/s, and the loss of the same batch
before any step, with its change against `none`. A line is printed as soon as it is measured; the line of a mode that
fails gives the reason. Random checkpoints have the family's published layout (config.json, tensor names, shards) and a
small tokenizer, and are removed afterwards.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from quantisation_shapes import SHAPES, TINY
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.lm import LanguageModel, families, load_lm, save_tokenizer, train_tokenizer
from r2gen.lm.quantize import check_quantised, quantisation_of, weight_bytes
from r2gen.model.projector import LinearProjector

MODES = ("none", "int8", "nf4", "int8_weight_only", "fp8")
SENTENCES = (
    "The heart is normal in size.",
    "The lungs are clear.",
    "No pneumothorax or pleural effusion is seen.",
    "There is a small left effusion.",
    "Degenerative changes of the spine are noted.",
)
REPORTS = [" ".join(SENTENCES[(i + k) % len(SENTENCES)] for k in range(2 + i % 4)) for i in range(64)]
PROMPT = "Generate a comprehensive and detailed diagnosis report for this chest xray image."
FEATURES, WIDTH = 49, 1024  # of an image, as in Swin-B
GIB = 2**30


@dataclass(frozen=True)
class Result:
    load_s: float
    weights_gib: float
    load_peak_gib: float  # of the GPU, or of this process
    host_peak_gib: float
    train_peak_gib: float
    samples_per_s: float
    reports_per_s: float
    loss: float  # nats per token
    trained_loss: float


def write_random(family: str, folder: Path, *, size: str, device: str) -> None:
    """Draw a model on the device in bf16 (fp32 on the CPU) and write it as the family publishes it."""
    published: dict[str, Any] = {**SHAPES[family], **(TINY[family] if size == "tiny" else {})}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(REPORTS, 300)
    save_tokenizer(tokenizer, folder)
    published |= {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    text = json.dumps(published, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    families.register(published["model_type"])
    config = AutoConfig.from_pretrained(folder)
    began = time.monotonic()
    torch.manual_seed(0)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        model = auto.from_config(config, dtype=dtype)
        if config.is_encoder_decoder:  # transformers draws T5's, tied to its embedding, with deviation 1: 349 nats
            torch.nn.init.normal_(model.get_output_embeddings().weight, std=0.02)
    drawn = time.monotonic()
    count = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size="4GB")
    (folder / "config.json").write_text(text, encoding="utf-8")  # as published, without what transformers adds
    (folder / "generation_config.json").unlink(missing_ok=True)
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / GIB
    say(
        f"{family}: {count / 1e9:.2f} B parameters drawn in {drawn - began:.1f} s, {written:.2f} GiB written in "
        f"{time.monotonic() - drawn:.1f} s to {folder}"
    )


def measure(folder: Path, *, mode: str, device: str, batch: int, steps: int, new_tokens: int) -> Result:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    began = time.monotonic()
    quantisation = quantisation_of(mode=mode, double_quant=mode == "nf4", dtype=dtype)
    lm: Any = load_lm(
        folder,
        dtype=str(dtype).removeprefix("torch."),
        quantization=quantisation,
        device_map=None if device == "cpu" else {"": device},
    )
    check_quantised(lm.model, mode=mode)
    load_s, load_peak, host_peak = time.monotonic() - began, peak_gib(device), host_gib()
    lm.model.requires_grad_(False)
    torch.manual_seed(0)
    projector = LinearProjector(in_dim=WIDTH, out_dim=lm.dim).to(device)
    features_BQD = torch.randn(batch, FEATURES, WIDTH).to(device)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=1e-3)
    with torch.no_grad():
        loss = loss_of(lm, projector, features_BQD).item()
    reset_peak(device)

    def step() -> torch.Tensor:
        loss = loss_of(lm, projector, features_BQD)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    step()  # chooses kernels and allocates buffers
    wait(device)
    began = time.monotonic()
    for _ in range(steps):
        trained = step()
    wait(device)
    samples_per_s, train_peak = steps * batch / (time.monotonic() - began), peak_gib(device)
    decoding = Decoding(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    with torch.inference_mode():
        prompt_BTE = wrapped(lm, projector, features_BQD)
        mask_BT = torch.ones(prompt_BTE.shape[:2], dtype=torch.bool, device=device)
        lm.generate(prompt_BTE, mask_BT, Decoding(max_new_tokens=2, min_new_tokens=2))
        wait(device)
        began = time.monotonic()
        lm.generate(prompt_BTE, mask_BT, decoding)
        wait(device)
    return Result(
        load_s,
        weight_bytes(lm.model) / GIB,
        load_peak,
        host_peak,
        train_peak,
        samples_per_s,
        batch / (time.monotonic() - began),
        loss,
        trained.item(),
    )


def wrapped(lm: LanguageModel, projector: LinearProjector, features_BQD: torch.Tensor) -> torch.Tensor:
    before = torch.tensor([lm.tokenizer.encode(PROMPT)] * len(features_BQD), device=features_BQD.device)
    before_BTE = lm.embed(before)
    return torch.cat([before_BTE, projector(features_BQD).to(before_BTE.dtype)], dim=1)


def loss_of(lm: LanguageModel, projector: LinearProjector, features_BQD: torch.Tensor) -> torch.Tensor:
    """Nats per token of the reports, as ReportGenerator computes them."""
    size, device = len(features_BQD), features_BQD.device
    rows = [torch.tensor([*lm.tokenizer.encode(REPORTS[i % len(REPORTS)]), lm.tokenizer.eos_id]) for i in range(size)]
    report_BT = pad_sequence(rows, batch_first=True, padding_value=NO_TARGET).to(device)
    prompt_BTE = wrapped(lm, projector, features_BQD)
    mask_BT = torch.ones(prompt_BTE.shape[:2], dtype=torch.bool, device=device)
    return lm.loss(prompt_BTE, mask_BT, report_BT).sum() / (report_BT != NO_TARGET).sum()


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: str) -> float:
    return host_gib() if device == "cpu" else torch.cuda.max_memory_allocated() / GIB


def host_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def in_fresh_process(arguments: list[str], *, timeout_s: int) -> tuple[dict[str, float] | None, str]:
    """The JSON in the last line that this script prints with these arguments, or the reason why there is none."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None, f"took more than {timeout_s} s"
    if done.returncode != 0:
        return None, next((line for line in reversed(done.stderr.strip().splitlines()) if line.strip()), "died")[:160]
    for text in done.stdout.strip().splitlines()[:-1]:
        say(text)
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def heading(name: str, *, device: str) -> str:
    place = "this process" if device == "cpu" else torch.cuda.get_device_name()
    where = f"{device} ({place}), peaks of {'this process' if device == 'cpu' else 'its memory'}"
    return (
        f"\n{name} on {where}; memory in GiB, loss in nats per token, change against none\n"
        f"{'quant':<17} {'load s':>7} {'weights':>8} {'load peak':>10} {'host peak':>10} {'train peak':>11} "
        f"{'samples/s':>10} {'ratio':>6} {'reports/s':>10} {'ratio':>6} {'loss':>8} {'change':>8}"
    )


def row(mode: str, measured: dict[str, float] | None, plain: dict[str, float] | None, *, reason: str) -> str:
    """The line of a mode; `plain` is the result of `none`, if it has been measured."""
    if measured is None:
        return f"{mode:<17} failed: {reason}"
    samples, reports = (measured[key] / plain[key] if plain else math.nan for key in ("samples_per_s", "reports_per_s"))
    change = measured["loss"] - plain["loss"] if plain else math.nan
    line = (
        f"{mode:<17} {measured['load_s']:>7.1f} {measured['weights_gib']:>8.3f} {measured['load_peak_gib']:>10.2f} "
        f"{measured['host_peak_gib']:>10.2f} {measured['train_peak_gib']:>11.2f} {measured['samples_per_s']:>10.2f} "
        f"{samples:>6.2f} {measured['reports_per_s']:>10.2f} {reports:>6.2f} "
        f"{measured['loss']:>8.4f} {change:>+8.4f}"
    )
    if mode != "none" and min(samples, reports) < 1:
        line += (
            f"\n{'':<17} warning: quant={mode} is slower than none here, down to {min(samples, reports):.2f} of "
            "its speed"
        )
    return line


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm", type=Path, help="a checkpoint's folder")
    parser.add_argument("--random", help=f"families to write at random instead: {', '.join(SHAPES)}")
    parser.add_argument("--out", type=Path, default=Path("/dev/shm/r2gen-quantisation"), help="where to")
    parser.add_argument("--size", choices=("7b", "tiny"), default="7b")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--timeout", type=int, default=300, help="seconds one mode may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a mode to measure, or `write`, in this process
    options = parser.parse_args()
    if options.device == "cuda":
        options.device = "cuda:0"
    if options.one == "write":
        write_random(options.random, options.out, size=options.size, device=options.device)
        return say("{}")
    if options.one:
        return say(
            json.dumps(
                asdict(
                    measure(
                        options.lm,
                        mode=options.one,
                        device=options.device,
                        batch=options.batch,
                        steps=options.steps,
                        new_tokens=options.new_tokens,
                    )
                )
            )
        )
    shared = [
        "--device",
        options.device,
        "--batch",
        str(options.batch),
        "--steps",
        str(options.steps),
        "--new-tokens",
        str(options.new_tokens),
        "--size",
        options.size,
    ]
    for family in options.random.split(",") if options.random else [None]:
        folder = options.lm if family is None else options.out / family
        try:
            if family is not None:
                made, reason = in_fresh_process(
                    ["--one", "write", "--random", family, "--out", str(folder), *shared], timeout_s=options.timeout
                )
                if made is None:
                    say(f"{family}: not written: {reason}")
                    continue
            plain = None
            say(heading(str(family or folder), device=options.device))
            for mode in options.modes.split(","):  # printed at once: a time limit then costs the later ones only
                measured, reason = in_fresh_process(
                    ["--one", mode, "--lm", str(folder), *shared], timeout_s=options.timeout
                )
                plain = measured if mode == "none" else plain
                say(row(mode, measured, plain, reason=reason))
        finally:
            if family is not None:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
