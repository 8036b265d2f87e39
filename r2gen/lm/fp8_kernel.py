"""Quantising activations to fp8 in one kernel; torch's own operations would read and write them four times."""

import torch
import triton
import triton.language as tl

# N rows, K columns


# An operator of torch, which torch.compile takes as it is.
@torch.library.custom_op("r2gen::quantise_rows", mutates_args=())
def quantise_rows_on_gpu(
    values_NK: torch.Tensor, factor_1K: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As quantise_rows of r2gen/lm/fp8.py, except for the last bit of a scale.

    On a GPU, torch divides by 448 there by multiplying with its reciprocal.
    """
    rows, columns = values_NK.shape
    rounded_NK, scale_N1 = _outputs(values_NK)
    values_NK = values_NK.contiguous()
    block = triton.next_power_of_2(columns)
    _quantise_row[(rows,)](
        values_NK,
        values_NK if factor_1K is None else factor_1K.contiguous(),
        rounded_NK,
        scale_N1,
        columns,
        BLOCK=block,
        MULTIPLIES=factor_1K is not None,
        num_warps=min(16, max(1, block // 512)),
    )
    return rounded_NK, scale_N1


@quantise_rows_on_gpu.register_fake
def _outputs(values_NK: torch.Tensor, factor_1K: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    rounded_NK = values_NK.new_empty(values_NK.shape, dtype=torch.float8_e4m3fn)
    # Not len(values_NK), which is an int: torch.compile would compile the layers again for each number of rows.
    return rounded_NK, values_NK.new_empty((values_NK.shape[0], 1), dtype=torch.float32)


@triton.jit
def _quantise_row(  # type: ignore[no-untyped-def]
    values,
    factors,
    rounded,
    scales,
    columns,
    BLOCK: tl.constexpr,
    MULTIPLIES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    value = tl.load(values + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    if MULTIPLIES:
        value *= tl.load(factors + column, mask=inside, other=0.0)
    not_finite = tl.sum(value * 0.0, axis=0)  # NaN if a value is NaN or infinite, which tl.max would pass over
    largest = tl.maximum(tl.max(tl.abs(value), axis=0), 1e-12)  # TINY
    inverse = tl.div_rn(448.0, largest) + not_finite  # LARGEST
    tl.store(rounded + row * columns + column, (value * inverse).to(tl.float8e4nv), mask=inside)
    tl.store(scales + row, tl.div_rn(largest, 448.0) + not_finite)
