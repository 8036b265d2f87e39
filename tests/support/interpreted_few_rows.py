"""Compare the products of r2gen/lm/few_rows.py with F.linear, in Triton's interpreter (TRITON_INTERPRET=1)."""

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.lm import few_rows
from r2gen.lm.few_rows import Tile
from r2gen.lm.fp8 import FP8, Fp8Linear

# N rows, K input features, O output features
SMALL = Tile(16, 32, 4, 2, 1)
SPLIT = Tile(16, 32, 4, 2, 8)  # in 4 parts: 2 of the 5 or 6 blocks of input features each, none for a last part


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def compare(rows: int, tile: Tile | None, *, inner: int, outer: int, bias: bool, dtype: torch.dtype) -> None:
    x_NK, weight_OK = drawn(rows, inner).to(dtype), drawn(outer, inner).to(dtype)
    bias_O = drawn(outer).to(dtype) if bias else None
    result_NO = few_rows.linear(x_NK, weight_OK, bias_O, tile=tile)
    exact_NO = F.linear(x_NK.float(), weight_OK.float(), None if bias_O is None else bias_O.float())
    assert result_NO.dtype == dtype
    torch.testing.assert_close(result_NO, exact_NO.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5 * inner)
    alone_1O = few_rows.linear(x_NK[-1:], weight_OK, bias_O, tile=tile)
    assert few_rows.tile_of(rows, dtype) != few_rows.tile_of(1, dtype) or torch.equal(alone_1O, result_NO[-1:])
    print("equal", rows, tile, inner, outer, bias, dtype)


def compare_fp8(rows: int, tile: Tile, *, inner: int, outer: int) -> None:
    linear = nn.Linear(inner, outer, bias=False)
    linear.weight.data = drawn(outer, inner)
    layer, x_NK = Fp8Linear(linear), drawn(rows, inner).bfloat16()
    result_NO = few_rows.linear_fp8(x_NK, layer.weight.view(FP8), layer.scale.view(torch.float32), tile=tile)
    torch.testing.assert_close(result_NO, layer(x_NK))
    print("equal", rows, tile, inner, outer, "fp8")


@torch.no_grad()
def main() -> None:
    for dtype in (torch.float16, torch.float32):  # the interpreter of Triton 3.8 multiplies bf16 as integers
        for rows, bias in ((1, False), (3, True), (17, False), (36, True)):
            compare(rows, SMALL, inner=96, outer=32, bias=bias, dtype=dtype)
            compare(rows, SPLIT, inner=160, outer=16, bias=bias, dtype=dtype)
    compare(3, None, inner=512, outer=128, bias=False, dtype=torch.float16)
    for rows in (1, 17):
        compare_fp8(rows, SMALL, inner=96, outer=32)
        compare_fp8(rows, SPLIT, inner=192, outer=16)


if __name__ == "__main__":
    main()
