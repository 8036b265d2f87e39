"""Time the ways to multiply by a weight of 8 bits on a GPU:  python benchmarks/linear_kernels.py [--rows 1,3,36,384]

For every shape of a layer of LLaMA-2 7B and every number of rows (beams of all studies in a decoding step), the
microseconds of one product, the bandwidth at which it reads the weight, and its error relative to the product in fp32.
Sixteen products with different weights are captured in one CUDA graph, so that neither launches nor a cached weight
flatter a figure.

    bf16              F.linear
    fp8 product       torch._scaled_mm of values that are e4m3 already; `precise` accumulates without use_fast_accum
    fp8 layer         Fp8Linear of r2gen/lm/fp8.py: rounding the activations, and the product
    fp8 few rows      a Triton kernel in which a program multiplies all rows (at most 64) by some columns of the weight
    int8 torchao      Int8WeightOnlyConfig: torchao casts the whole weight to bf16 in every product, which it then reads
    int8 packed       torch._weight_int8pack_mm, in which a thread or a warp computes one number in fp32
    int8 few rows     the Triton kernel with bf16 activations
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import nn
from torch.nn import functional as F

from r2gen.lm.fp8 import Fp8Linear, multiplies_fp8, quantise_rows

# N rows of activations, K input features, O output features
SHAPES = ((4096, 4096), (4096, 11008), (11008, 4096), (4096, 12288), (4096, 22016))  # K, O; the last two: fused
WEIGHTS = 16
MOST_ROWS = 64  # of the kernel


@triton.jit
def _few_rows(  # type: ignore[no-untyped-def]
    values,  # [N, K] in e4m3 or bf16
    value_scales,  # [N], for e4m3
    weight,  # [O, K] in e4m3 or int8
    weight_scales,  # [O]
    output,  # [N, O] in bf16
    rows,
    K: tl.constexpr,
    O: tl.constexpr,  # noqa: E741
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    FP8: tl.constexpr,
):
    row, column = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, K, DEPTH):
        at = start + depth
        w = tl.load(weight + column[:, None] * K + at[None, :])
        x = tl.load(values + row[:, None] * K + at[None, :], mask=row[:, None] < rows, other=0.0)
        if not FP8:
            w = w.to(tl.float32).to(x.dtype)
        total += tl.dot(x, tl.trans(w))
    scale = tl.load(weight_scales + column)[None, :]
    if FP8:
        scale = scale * tl.load(value_scales + row, mask=row < rows, other=0.0)[:, None]
    tl.store(output + row[:, None] * O + column[None, :], (total * scale).to(tl.bfloat16), mask=row[:, None] < rows)


def few_rows(
    values_NK: torch.Tensor,
    value_scale_N1: torch.Tensor | None,
    weight_OK: torch.Tensor,
    weight_scale_O1: torch.Tensor,
    *,
    columns: int,
    depth: int,
    stages: int,
) -> torch.Tensor:
    """The product in bf16 of at most MOST_ROWS rows; K must be a multiple of `depth`, O of `columns`."""
    (rows, inner), outer = values_NK.shape, len(weight_OK)
    output_NO = torch.empty(rows, outer, dtype=torch.bfloat16, device=values_NK.device)
    _few_rows[(outer // columns,)](
        values_NK,
        weight_scale_O1 if value_scale_N1 is None else value_scale_N1,
        weight_OK,
        weight_scale_O1,
        output_NO,
        rows,
        K=inner,
        O=outer,
        ROWS=max(16, triton.next_power_of_2(rows)),
        COLUMNS=columns,
        DEPTH=depth,
        FP8=value_scale_N1 is not None,
        num_warps=4,
        num_stages=stages,
    )
    return output_NO


def ways(weights: list[torch.Tensor], rows: int) -> dict[str, Callable[[torch.Tensor, int], torch.Tensor]]:
    """Each way as a function of activations in bf16 and the number of a weight."""
    layers = [linear(weight) for weight in weights]
    int8_OK, int8_scale_O = zip(*[to_int8(weight) for weight in weights], strict=True)
    by_name: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {"bf16": lambda x, i: F.linear(x, weights[i])}
    if multiplies_fp8(weights[0].device):
        fp8 = [Fp8Linear(layer) for layer in layers]
        values = quantise_rows(torch.randn(rows, weights[0].shape[1], device=weights[0].device).bfloat16())

        def product(x: torch.Tensor, i: int, fast: bool) -> torch.Tensor:
            weight, scale = fp8[i].weight.view(torch.float8_e4m3fn), fp8[i].scale.view(torch.float32)
            return torch._scaled_mm(
                *(values[0], weight.t()),
                **{"scale_a": values[1], "scale_b": scale.t(), "out_dtype": torch.bfloat16, "use_fast_accum": fast},
            )

        by_name["fp8 product"] = lambda x, i: product(x, i, True)
        by_name["fp8 product, precise"] = lambda x, i: product(x, i, False)
        by_name["fp8 layer"] = lambda x, i: fp8[i](x)
        by_name["fp8 rounding alone"] = lambda x, i: quantise_rows(x)[0]
        if rows <= MOST_ROWS:
            for columns, depth, stages in ((16, 256, 4), (32, 256, 4), (32, 512, 3), (64, 256, 3)):

                def kernel(x: torch.Tensor, i: int, **options: int) -> torch.Tensor:
                    weight, scale = fp8[i].weight.view(torch.float8_e4m3fn), fp8[i].scale.view(torch.float32)
                    return few_rows(*quantise_rows(x), weight, scale, **options)

                options = {"columns": columns, "depth": depth, "stages": stages}
                by_name[f"fp8 few rows {columns}x{depth}/{stages}"] = lambda x, i, o=options: kernel(x, i, **o)
    by_name["int8 torchao"] = lambda x, i: (x @ int8_OK[i].t().to(x.dtype)) * int8_scale_O[i].to(x.dtype)
    by_name["int8 packed"] = lambda x, i: torch._weight_int8pack_mm(x, int8_OK[i], int8_scale_O[i].to(x.dtype))
    if rows <= MOST_ROWS:
        for columns, depth, stages in ((16, 256, 4), (32, 256, 3), (32, 128, 5), (64, 128, 4)):
            options = {"columns": columns, "depth": depth, "stages": stages}
            by_name[f"int8 few rows {columns}x{depth}/{stages}"] = lambda x, i, o=options: few_rows(
                x, None, int8_OK[i], int8_scale_O[i][:, None], **o
            )
    return by_name


def linear(weight_OK: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight_OK.shape[1], weight_OK.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight_OK, requires_grad=False)
    return layer


def to_int8(weight_OK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As torchao: symmetric, one scale per output row."""
    scale_O1 = weight_OK.float().abs().amax(1, keepdim=True) / 127
    return (weight_OK / scale_O1).round().to(torch.int8), scale_O1[:, 0]


def graph_us(work: Callable[[int], torch.Tensor], *, replays: int = 20) -> float:
    """Microseconds of one product, among WEIGHTS products in a CUDA graph."""
    for i in range(2):  # compiles and allocates
        work(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(WEIGHTS):
            work(i)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    for _ in range(replays):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e3 / replays / WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,3,36,144,384,576")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each figure")
    options = parser.parse_args()
    for inner, outer in SHAPES:
        weights = [torch.randn(outer, inner, device="cuda").bfloat16() * 0.02 for _ in range(WEIGHTS)]
        for rows in map(int, options.rows.split(",")):
            x_NK = torch.randn(rows, inner, device="cuda").bfloat16()
            exact_NO = x_NK.float() @ weights[0].float().t()
            for name, way in ways(weights, rows).items():
                record: dict[str, Any] = {"rows": rows, "inner": inner, "outer": outer, "way": name}
                try:
                    if "product" not in name and "alone" not in name:
                        record["error"] = round(float(torch.dist(way(x_NK, 0), exact_NO) / exact_NO.norm()), 4)
                    record["us"] = round(graph_us(lambda i, way=way, x=x_NK: way(x, i)), 2)
                    size = 2 if name == "bf16" else 1
                    record["gb_per_s"] = round(inner * outer * size / record["us"] / 1e3)
                except Exception as error:  # the other ways still have their figures
                    record["failed"] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}"
                print("  ".join(str(value).rjust(8) for value in record.values()), flush=True)
                if options.out is not None:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
