"""Time linear layers of LLaMA-2 7B on a GPU:  python benchmarks/linear_kernels.py [--rows 1,3,36] [--weights bf16,fp8]

For every shape of a layer, every number of rows (beams of all studies in a decoding step) and every way to multiply:
the microseconds of one product, the same with all that a layer does outside of torch.compile (rounding activations,
summing parts, casting), the bandwidth at which the product reads the weight, and the error of the layer relative to
fp32. Products with different weights are captured in one CUDA graph, so that neither launches nor a cached weight
flatter a figure. At the end: the milliseconds of all products of a token, for each way and for the best of each shape.

    F.linear          of bf16
    scaled_mm         of values that are e4m3 already, which accumulates as Fp8Linear of r2gen/lm/fp8.py
    few rows          the kernel of r2gen/lm/few_rows.py: columns x depth / warps / stages / programs at least; `rule`
                      is the tile that it chooses
    int8 torchao      Int8WeightOnlyConfig: torchao casts the whole weight to bf16 in every product, which it then reads
    int8 packed       torch._weight_int8pack_mm, in which a thread or a warp computes one number in fp32
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.lm import few_rows
from r2gen.lm.few_rows import Tile
from r2gen.lm.fp8 import FP8, Fp8Linear, multiplies_fp8, quantise_rows

# N rows of activations, K input features, O output features

HEAD = (4096, 32000)
PER_TOKEN = {(4096, 4096): 4 * 32, (4096, 11008): 2 * 32, (11008, 4096): 32, HEAD: 1}  # products by (K, O)
WEIGHTS_BYTES = 512 * 2**20  # of all weights of a graph together, ten times the L2 cache
REPLAYS = 20

# Columns, depth, warps, stages, programs; for more rows (True) few columns would read all rows too often.
TILES = {
    ("bf16", False): [
        Tile(16, 256, 4, 4, 128),
        Tile(32, 256, 4, 4, 128),
        Tile(32, 256, 4, 4, 256),
        Tile(32, 256, 2, 4, 128),
        Tile(32, 128, 4, 6, 256),
        Tile(64, 128, 4, 5, 128),
        Tile(64, 128, 4, 5, 256),
        Tile(64, 256, 4, 4, 128),
        Tile(128, 128, 4, 4, 128),
    ],
    ("bf16", True): [
        Tile(32, 128, 4, 4, 256),
        Tile(64, 128, 4, 3, 256),
        Tile(64, 128, 4, 4, 128),
        Tile(64, 64, 4, 6, 256),
        Tile(64, 256, 4, 3, 128),
        Tile(128, 64, 4, 5, 128),
        Tile(128, 64, 4, 4, 256),
        Tile(128, 128, 4, 4, 128),
        Tile(128, 128, 8, 4, 128),
    ],
    ("fp8", False): [
        Tile(32, 256, 4, 4, 128),
        Tile(64, 128, 4, 6, 256),
        Tile(64, 256, 4, 4, 128),
        Tile(64, 256, 4, 5, 256),
        Tile(128, 128, 4, 5, 256),
        Tile(128, 256, 4, 4, 128),
        Tile(128, 256, 8, 4, 128),
    ],
    ("fp8", True): [
        Tile(64, 128, 4, 6, 256),
        Tile(64, 256, 4, 3, 256),
        Tile(64, 256, 4, 4, 128),
        Tile(128, 128, 4, 5, 256),
        Tile(128, 256, 4, 3, 256),
        Tile(128, 256, 4, 4, 128),
        Tile(128, 256, 8, 4, 128),
    ],
}

# A way: its product of rows with the weight of a number, and what a layer computes with it.
Product = Callable[[int], torch.Tensor]
Way = tuple[str, Product, Product]


def ways(kind: str, weights: list[torch.Tensor], x_NK: torch.Tensor) -> Iterator[Way]:
    if kind == "bf16":
        yield from bf16_ways(weights, x_NK)
    elif kind == "fp8":
        yield from fp8_ways(weights, x_NK)
    else:
        yield from int8_ways(weights, x_NK)


def bf16_ways(weights: list[torch.Tensor], x_NK: torch.Tensor) -> Iterator[Way]:
    yield "F.linear", lambda i: F.linear(x_NK, weights[i]), lambda i: F.linear(x_NK, weights[i])
    for name, tile, parts in tiles("bf16", weights[0], len(x_NK)):
        dtype = x_NK.dtype if parts == 1 else torch.float32

        def product(i: int, tile: Tile = tile, parts: int = parts, dtype: torch.dtype = dtype) -> torch.Tensor:
            return few_rows.partial_products(x_NK, weights[i], tile=tile, parts=parts, dtype=dtype)

        yield name, product, lambda i, tile=tile: few_rows.linear(x_NK, weights[i], None, tile=tile)


def fp8_ways(weights: list[torch.Tensor], x_NK: torch.Tensor) -> Iterator[Way]:
    if not multiplies_fp8(x_NK.device):
        return
    layers = [Fp8Linear(linear(weight)) for weight in weights]
    fp8 = [(layer.weight.view(FP8), layer.scale.view(torch.float32)) for layer in layers]
    values_NK, scale_N1 = quantise_rows(x_NK)

    def scaled_mm(i: int) -> torch.Tensor:
        weight_OK, scale_O1 = fp8[i]
        scales = {"scale_a": scale_N1, "scale_b": scale_O1.t()}
        return torch._scaled_mm(values_NK, weight_OK.t(), **scales, out_dtype=torch.bfloat16, use_fast_accum=True)

    yield "scaled_mm", scaled_mm, lambda i: layers[i](x_NK)
    for name, tile, parts in tiles("fp8", fp8[0][0], len(x_NK)):

        def product(i: int, tile: Tile = tile, parts: int = parts) -> torch.Tensor:
            return few_rows.partial_products(values_NK, fp8[i][0], tile=tile, parts=parts, dtype=torch.float32)

        yield name, product, lambda i, tile=tile: few_rows.linear_fp8(x_NK, *fp8[i], tile=tile)


def int8_ways(weights: list[torch.Tensor], x_NK: torch.Tensor) -> Iterator[Way]:
    int8_OK, scale_O = zip(*[to_int8(weight) for weight in weights], strict=True)

    def torchao(i: int) -> torch.Tensor:
        return (x_NK @ int8_OK[i].t().to(x_NK.dtype)) * scale_O[i].to(x_NK.dtype)

    def packed(i: int) -> torch.Tensor:
        return torch._weight_int8pack_mm(x_NK, int8_OK[i], scale_O[i].to(x_NK.dtype))

    yield "int8 torchao", torchao, torchao
    yield "int8 packed", packed, packed


def tiles(kind: str, weight_OK: torch.Tensor, rows: int) -> Iterator[tuple[str, Tile, int]]:
    if rows > few_rows.LIMIT:
        return
    outer, inner = weight_OK.shape
    rule = few_rows.tile_of(rows, weight_OK.dtype)
    for tile in dict.fromkeys([rule, *TILES[kind, rows > few_rows.FEWEST]]):
        name = "few rows {}x{}/{}/{}/{}".format(*astuple(tile))
        yield name + (" rule" if tile == rule else ""), tile, tile.parts(inner, outer)


def linear(weight_OK: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight_OK.shape[1], weight_OK.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight_OK, requires_grad=False)
    return layer


def to_int8(weight_OK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As torchao: symmetric, one scale per output row."""
    scale_O1 = weight_OK.float().abs().amax(1, keepdim=True) / 127
    return (weight_OK / scale_O1).round().to(torch.int8), scale_O1[:, 0]


def graph_us(product: Product, count: int) -> float:
    """Microseconds of one of `count` products with different weights in a CUDA graph."""
    for _ in range(2):  # compiles and allocates
        product(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(count):
            product(i)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return round(float(start.elapsed_time(end)) * 1e3 / REPLAYS / count, 2)


def measure(way: Way, weights: list[torch.Tensor], exact_NO: torch.Tensor, *, size: int) -> dict[str, Any]:
    _, product, layer = way
    try:
        error = round(float(torch.dist(layer(0).float(), exact_NO) / exact_NO.norm()), 4)
        us, layer_us = graph_us(product, len(weights)), graph_us(layer, len(weights))
    except Exception as error:  # the other ways still have their figures
        return {"failed": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:120]}"}
    return {"us": us, "layer_us": layer_us, "gb_per_s": round(weights[0].numel() * size / us / 1e3), "error": error}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,3,36")
    parser.add_argument("--weights", default="bf16,fp8", help="of bf16, fp8, int8")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each figure")
    options = parser.parse_args()
    times: dict[tuple[int, str], dict[str, dict[tuple[int, int], float]]] = defaultdict(lambda: defaultdict(dict))
    print("rows  K x O  weights  way: microseconds of the product, of the layer, GB/s, error", flush=True)
    for inner, outer in PER_TOKEN:
        count = max(2, WEIGHTS_BYTES // (inner * outer * 2))
        weights = [torch.randn(outer, inner, device="cuda").bfloat16() * 0.02 for _ in range(count)]
        for rows in map(int, options.rows.split(",")):
            x_NK = torch.randn(rows, inner, device="cuda").bfloat16()
            exact_NO = x_NK.float() @ weights[0].float().t()
            for kind in options.weights.split(","):
                if kind != "bf16" and (inner, outer) == HEAD:  # it stays in bf16
                    continue
                for way in ways(kind, weights, x_NK):
                    figures = measure(way, weights, exact_NO, size=2 if kind == "bf16" else 1)
                    if "us" in figures:
                        times[rows, kind][way[0]][inner, outer] = figures["us"]
                    print(f"{rows:4} {inner:5} x {outer:5} {kind:5} {way[0]:34}", *figures.values(), flush=True)
                    if options.out is not None:
                        record = {"rows": rows, "inner": inner, "outer": outer, "weights": kind, "way": way[0]}
                        with options.out.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(record | figures) + "\n")
    for (rows, kind), by_way in times.items():
        print_totals(f"{rows} rows, {kind}" + ("" if kind == "bf16" else " without the head"), by_way)


def print_totals(title: str, by_way: dict[str, dict[tuple[int, int], float]]) -> None:
    shapes = {shape for us in by_way.values() for shape in us}
    print(f"\nms per token of the products alone, {title}")
    totals = {
        way: sum(us[shape] * PER_TOKEN[shape] for shape in shapes) / 1e3
        for way, us in by_way.items()
        if us.keys() == shapes
    }
    for way, total in sorted(totals.items(), key=lambda item: item[1]):
        print(f"{total:7.3f}  {way}")
    best = {shape: min((us[shape], way) for way, us in by_way.items() if shape in us) for shape in shapes}
    print(f"{sum(us * PER_TOKEN[shape] for shape, (us, _) in best.items()) / 1e3:7.3f}  the best of each shape:")
    for shape, (us, way) in sorted(best.items()):
        print(f"         {shape[0]:5} x {shape[1]:5} {us:7.2f} us  {way}")


if __name__ == "__main__":
    main()
