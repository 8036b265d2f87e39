"""What the device of a benchmark can do, measured: the limits that its figures are compared with."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from r2gen.lm.fp8 import multiplies_fp8, quantise_rows


@dataclass(frozen=True)
class Machine:
    """What the device can do, measured."""

    copied_gb_per_s: float  # bytes read plus bytes written
    tflop_per_s: float  # of a product in bf16 (fp32 on the CPU)
    fp8_tflop_per_s: float  # 0 where there is none


def probe(device: torch.device) -> Machine:
    """The bandwidth of a copy and the rate of a matrix product; on the CPU small ones, whose figures mean little."""
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    source = torch.zeros(2**31 if on_gpu else 2**24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / best_s(lambda: target.copy_(source), device)
    side = 8192 if on_gpu else 256
    square = torch.randn(side, side, device=device, dtype=dtype)
    product = 2 * side**3 / best_s(lambda: square @ square, device)
    fp8 = 0.0
    if multiplies_fp8(device):
        values, scale = quantise_rows(square)
        of = {"scale_a": scale, "scale_b": scale.t(), "out_dtype": torch.bfloat16, "use_fast_accum": True}
        fp8 = 2 * side**3 / best_s(lambda: torch._scaled_mm(values, values.t(), **of), device)
    return Machine(copied / 1e9, product / 1e12, fp8 / 1e12)


def best_s(work: Callable[[], object], device: torch.device, *, times: int = 10) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
