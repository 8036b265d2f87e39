"""Measure each part of a training step alone:  PYTHONPATH=. python benchmarks/train_parts.py [BATCH ...]

One process, LLaMA-2 7B with random weights, frozen, with a frozen Swin-B and a projector that trains with torch's
AdamW; reports of 66 to 78 tokens. There are no engine, no data files and no log, which benchmarks/train.py includes. On
the CPU the shapes are tiny. Each variant has what those before it have:

    mask        rows with padding, an attention mask and logits for every position of the report
    rows        one row per study without a mask, logits at targets
    packed      one row of all studies, attention by torch's variable-length kernel
    compiled    layers compiled by torch.compile
    cached      features of the frozen encoder, computed in the first epoch only
    opening     the prompt before the image computed once
    last        the feed-forward network of the last layer at the predicting positions only
    fp8         quant=fp8

`ms` is the time of a step, `encoder` that of the encoder in it, `peak` the memory in GiB. --profile FILE writes the
kernels of a compiled step by their time.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from decode_models import SIZES, build_tokenizer, random_llama, report_generator
from machine import installed, probe
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from r2gen.data.collate import NO_TARGET, Batch
from r2gen.lm import causal
from r2gen.lm.causal import CausalLM
from r2gen.lm.compile import compile_layers
from r2gen.lm.fp8 import prepare_backward, to_fp8
from r2gen.lm.last_layer import last_layer_at
from r2gen.lm.padding import left_pad
from r2gen.model.report_generator import ReportGenerator
from r2gen.vision.feature_cache import FeatureCache

BATCHES = 4  # different ones
CACHED = ("cached", "opening", "last", "fp8")
LENGTHS = range(66, 79)  # tokens of a report, as R2GenGPT's speed was measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", type=int, nargs="*", default=[8, 32, 64])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--variants", default="mask,rows,packed,compiled,cached,opening,last,fp8")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    size = SIZES["7b" if on_gpu else "tiny"]
    limits = probe(device)
    print(
        f"{torch.cuda.get_device_name() if on_gpu else 'CPU'}, torch {torch.__version__}, transformers "
        f"{installed('transformers')}, {limits.tflop_per_s:.0f} TFLOP/s in bf16, {limits.fp8_tflop_per_s:.0f} in fp8"
    )
    model = report_generator(
        random_llama(size, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32),
        build_tokenizer(size.vocabulary),
        size,
    )
    model.projector.requires_grad_(True)
    lm = model.lm
    assert isinstance(lm, CausalLM)
    opening = lm.opening
    lm.packs, lm.opening = False, ()
    causal.last_layer_at = lambda *_: nullcontext()  # type: ignore[assignment]
    for variant in options.variants.split(","):
        if variant == "packed":
            lm.packs = True
        elif variant == "compiled":
            compile_layers(lm.model)
        elif variant == "opening":
            lm.opening = opening
        elif variant == "last":
            causal.last_layer_at = last_layer_at
        elif variant == "fp8":
            to_fp8(lm.model)
            prepare_backward(lm.model)
            torch._dynamo.reset()
        with masked_loss(lm, used=variant == "mask"):
            for batch in options.batches:
                if variant in CACHED:
                    model.vision.cache = FeatureCache(BATCHES * batch)
                measure(model, variant, batch, size=size, steps=options.steps, device=device)
                if options.profile and variant in CACHED:
                    name = options.profile.with_stem(f"{options.profile.stem}-{variant}-{batch}")
                    profile(lambda batch=batch: run(model, batch, size=size, steps=3, device=device), name)


def measure(
    model: ReportGenerator, variant: str, batch: int, *, size: object, steps: int, device: torch.device
) -> None:
    try:
        began = time.monotonic()
        run(model, batch, size=size, steps=BATCHES, device=device)
        warm_s = time.monotonic() - began
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step_s, encoder_s = run(model, batch, size=size, steps=steps, device=device)
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
        print(
            f"{variant:<9} batch {batch:>3}  {batch / step_s:7.1f} samples/s  {step_s * 1e3:7.1f} ms  encoder "
            f"{encoder_s * 1e3:5.1f}  peak {peak:5.1f}  first 4 steps {warm_s:5.1f} s",
            flush=True,
        )
    except (RuntimeError, AssertionError) as error:
        print(f"{variant:<9} batch {batch:>3}  {' '.join(str(error).split()):.200}", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def run(model: ReportGenerator, batch: int, *, size: object, steps: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a step, and of the encoder alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    batches = [random_batch(batch, size=size, seed=seed).to(device) for seed in range(BATCHES)]

    def step(number: int) -> None:
        chosen = batches[number % BATCHES]
        (model(chosen) / chosen.target_tokens).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def encode(number: int) -> None:
        chosen = batches[number % BATCHES]
        model.vision(chosen.images_RVHW, chosen.views_RV)

    return timed(step, steps, device), timed(encode, steps, device)


def timed(work: Callable[[int], None], times: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for number in range(times):
        work(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def random_batch(batch: int, *, size: object, seed: int) -> Batch:
    source = torch.Generator().manual_seed(seed)
    side, shorter = size.swin["image_size"], size.shorter  # type: ignore[attr-defined]
    lengths = torch.randint(LENGTHS.start // shorter, LENGTHS.stop // shorter, (batch,), generator=source).tolist()
    reports = [torch.randint(3, size.vocabulary, (length,), generator=source) for length in lengths]  # type: ignore[attr-defined]
    return Batch(
        ids=tuple(f"{seed}-{number}" for number in range(batch)),
        images_RVHW=torch.randint(0, 256, (batch, 1, side, side), generator=source, dtype=torch.uint8),
        views_RV=torch.ones(batch, 1, dtype=torch.bool),
        report_BT=pad_sequence(reports, batch_first=True, padding_value=float(NO_TARGET)),
    )


@contextmanager
def masked_loss(lm: CausalLM, *, used: bool) -> Iterator[None]:
    """Let `lm` compute its loss from a padded batch with a mask."""

    def loss(prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor) -> torch.Tensor:
        prompt_BTE, mask_BT = left_pad(prompt_BTE, mask_BT)
        report_BL = report_BL.to(prompt_BTE.device)
        real_BL = report_BL != NO_TARGET
        embeds_BSE = torch.cat([prompt_BTE, lm.embed(report_BL.where(real_BL, 0))], dim=1).to(lm.model.dtype)
        mask_BS = torch.cat([mask_BT, real_BL.long()], dim=1)
        logits_BLV = lm.model(
            inputs_embeds=embeds_BSE,
            attention_mask=mask_BS,
            position_ids=(mask_BS.cumsum(dim=1) - 1).clamp(min=0),
            logits_to_keep=report_BL.shape[1] + 1,
            use_cache=False,
        ).logits[:, :-1]
        return F.cross_entropy(
            logits_BLV.float().flatten(0, 1), report_BL.flatten(), ignore_index=NO_TARGET, reduction="sum"
        )

    if used:
        lm.loss = loss  # type: ignore[method-assign]
    try:
        yield
    finally:
        lm.__dict__.pop("loss", None)


def profile(work: Callable[[], object], file: Path) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        work()
    table = profiler.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=90)
    file.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
