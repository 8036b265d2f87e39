"""Training without this project, for benchmarks/train.py: the recipe of R2GenGPT, and a plain loop of transformers.

    python benchmarks/train_loops.py '{"stack": "reference", "batch": 8, ...}'      the last line is the result as JSON

`reference` follows R2GenGPT (models/R2GenGPT.py): LLaMA in fp16 and an encoder in fp32 under fp16 autocast with a
gradient scaler, every report padded to max_length, BOS, prompt, image and report as one sequence with a mask, logits
and loss at every position, AdamW on what is trained, and a loss that is read at each step, as its progress bar does.
Here max_length is such that a sample has 167 positions, as when its speed was measured. `plain` is the same in bf16
without autocast, padded to the longest report of the batch. Images and token ids are in memory: neither loop waits for
a loader.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decode_models import AFTER, BEFORE, SIZES, Size, random_llama, tokenizer_of_reports
from machine import installed, probe
from torch import nn
from train_files import write_files
from transformers import SwinConfig, SwinModel

from r2gen.lm.prompt import Prompt

# B batch, V views, H height, W width, T positions of the prompt, L tokens of the report, S = T + L, E width
PADDED = 167  # positions of a sample when the speed of R2GenGPT was measured, of which 147 were real
NO_TARGET = -100
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}  # conf/tune/lm/lora


class Loop(nn.Module):
    """Frozen Swin and LLaMA, and the trained projector: loss of a batch."""

    def __init__(self, size: Size, row: dict[str, Any], *, device: torch.device) -> None:
        super().__init__()
        self.reference = row["stack"] == "reference"
        on_gpu = device.type == "cuda"
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}[row["precision"]] if on_gpu else torch.float32
        llama: Any = random_llama(size, device=device, dtype=half)
        self.llama = llama.train() if self.reference else llama
        if row["lm"] == "lora":
            from peft import LoraConfig, get_peft_model

            llama = get_peft_model(llama, LoraConfig(**LORA))  # type: ignore[arg-type]
            self.llama = llama.base_model.model
        if row["compile"]:
            for layer in self.llama.model.layers:
                layer.forward = torch.compile(layer.forward, dynamic=True)
        own = torch.float32 if self.reference else half
        self.swin: Any = SwinModel(SwinConfig(**size.swin, patch_size=4)).to(device, own)
        self.swin.requires_grad_(row["vision"] == "full").train(self.reference or row["vision"] == "full")
        width = llama.config.hidden_size
        self.linear = nn.Linear(self.swin.num_features, width, device=device, dtype=own)
        self.norm = nn.LayerNorm(width, device=device, dtype=own)
        prompt = Prompt(before=BEFORE, after=AFTER, bos=True).around(
            tokenizer_of_reports(min(size.vocabulary, 2_000)), context=False
        )
        self.prompt = [torch.tensor([ids], device=device) for ids in (prompt.before, prompt.after)]
        self.dtype, self.device = half, device

    def autocast(self) -> AbstractContextManager[Any]:
        use = self.reference and self.device.type == "cuda"
        return torch.autocast("cuda", dtype=self.dtype) if use else nullcontext()

    def forward(self, images_B3HW: torch.Tensor, ids_BL: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        size, longest = ids_BL.shape
        trains = next(self.swin.parameters()).requires_grad
        with nullcontext() if trains else torch.no_grad():
            features_BPD = self.swin(images_B3HW)["last_hidden_state"]
        image_BPE = self.norm(self.linear(features_BPD))
        embed = self.llama.get_input_embeddings()
        before_BTE, after_BTE = (embed(ids).expand(size, -1, -1) for ids in self.prompt)
        embeds_BSE = torch.cat([before_BTE, image_BPE.to(before_BTE.dtype), after_BTE, embed(ids_BL)], dim=1)
        real_BL = torch.arange(longest, device=self.device) < lengths_B[:, None]
        prompt_BT = real_BL.new_ones(size, embeds_BSE.shape[1] - longest)
        mask_BS = torch.cat([prompt_BT, real_BL], dim=1)
        targets_BL = ids_BL.where(real_BL, NO_TARGET)
        labels_BS = torch.cat([torch.full_like(prompt_BT, NO_TARGET, dtype=torch.long), targets_BL], dim=1)
        loss: torch.Tensor = self.llama(
            inputs_embeds=embeds_BSE, attention_mask=mask_BS.long(), labels=labels_BS, use_cache=False
        ).loss
        return loss


def batches(row: dict[str, Any], facts: dict[str, Any], *, device: torch.device) -> Iterator[tuple[torch.Tensor, ...]]:
    """Random images and ids with the lengths of the data set, in random order."""
    random, side = np.random.default_rng(0), row["image_px"]
    limit = max(1, row["padded"] - facts["prompt"] - facts["image"])
    images = torch.randn(64, 3, side, side, dtype=torch.float32)
    while True:
        lengths = torch.tensor(random.choice(facts[row["data"]], row["batch"]))
        if row["stack"] == "reference":
            lengths = lengths.clamp(max=limit)  # the original cuts reports at max_length
        width = limit if row["stack"] == "reference" else int(lengths.max())
        ids_BL = torch.tensor(random.integers(3, row["vocabulary"], (row["batch"], width)))
        chosen = torch.tensor(random.integers(64, size=row["batch"]))
        yield tuple(part.to(device, non_blocking=True) for part in (images[chosen], ids_BL, lengths))


def measure(row: dict[str, Any], size: Size, facts: dict[str, Any], *, device: torch.device) -> dict[str, Any]:
    """Samples/s of windows of steps after the warm-up, and the peak memory."""
    began = time.monotonic()
    loop = Loop(size, row, device=device)
    trained = [parameter for parameter in loop.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=loop.reference and loop.dtype == torch.float16)
    row = {**row, "image_px": size.swin["image_size"], "vocabulary": size.vocabulary}
    source = batches(row, facts, device=device)

    def step() -> float:
        images_B3HW, ids_BL, lengths_B = next(source)
        with loop.autocast():
            loss = loop(images_B3HW if loop.reference else images_B3HW.to(loop.dtype), ids_BL, lengths_B)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.item() if loop.reference else 0.0

    step()
    start_s = time.monotonic() - began
    for _ in range(row["warm"] - 1):
        step()
    rates = []
    for _ in range(row["windows"]):
        wait(device)
        window = time.monotonic()
        for _ in range(row["steps"]):
            step()
        wait(device)
        rates.append(row["steps"] * row["batch"] / (time.monotonic() - window))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return {"rates": rates, "peak_gib": peak, "start_s": start_s}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def describe(device: torch.device) -> dict[str, Any]:
    """The device, its measured limits, and versions."""
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "devices": torch.cuda.device_count(),
        "python": sys.version.split()[0],
        **{name: installed(name) for name in ("torch", "transformers", "deepspeed", "timm", "triton", "bitsandbytes")},
        **vars(probe(device)),
    }


def main() -> None:
    row = json.loads(sys.argv[1])
    size, scratch, device = SIZES[row["size"]], Path(row["scratch"]), torch.device(row["device"])
    if device.type == "cpu":
        torch.set_num_threads(1)  # faster for matrices this small, much so on a busy machine
    if row["stack"] == "describe":
        write_files(scratch, size, device=row["device"], studies=row["studies"])
        result = describe(device)
    else:
        facts = json.loads((scratch / "facts.json").read_text(encoding="utf-8"))
        result = measure(row, size, facts, device=device)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
