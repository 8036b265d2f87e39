"""Quantising activations to fp8 in one kernel; torch's own operations would read and write them four times."""

import torch
import triton
import triton.language as tl

# N rows, K columns


def quantise_rows_on_gpu(values_NK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As quantise_rows of r2gen/lm/fp8.py, bit for bit."""
    values_NK = values_NK.contiguous()
    rows, columns = values_NK.shape
    rounded_NK = torch.empty_like(values_NK, dtype=torch.float8_e4m3fn)
    scale_N1 = torch.empty(rows, 1, dtype=torch.float32, device=values_NK.device)
    block = triton.next_power_of_2(columns)
    _quantise_row[(rows,)](
        values_NK, rounded_NK, scale_N1, columns, BLOCK=block, num_warps=min(16, max(1, block // 512))
    )
    return rounded_NK, scale_N1


@triton.jit
def _quantise_row(values, rounded, scales, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    value = tl.load(values + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    not_finite = tl.sum(value * 0.0, axis=0)  # NaN if a value is NaN or infinite, which tl.max would pass over
    largest = tl.maximum(tl.max(tl.abs(value), axis=0), 1e-12)  # TINY
    scale = tl.div_rn(largest, 448.0) + not_finite  # LARGEST
    tl.store(rounded + row * columns + column, tl.div_rn(value, scale).to(tl.float8e4nv), mask=inside)
    tl.store(scales + row, scale)
