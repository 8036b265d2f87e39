"""Time attention within each study of one row on a GPU:  python benchmarks/packed_kernel.py [--cudnn]

For each batch of studies, forward and backward of torch's varlen_attn as the product calls it, of cuDNN, and of
r2gen/lm/packed_kernel.py in several tiles (block x step / warps / stages; * the default): the microseconds of a call,
the bytes of all inputs and outputs per second, and the largest error relative to that of torch, both against by_mask in
fp32.
Each call takes the next of several inputs, so that none is in the L2 cache, and the GPU sleeps until the calls are
queued, so that launches do not count. Takes about a minute.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, product
from typing import Any

import torch

from r2gen.lm import packed_attention, packed_operator
from r2gen.lm.packed_operator import BACKWARD_KEY, BACKWARD_QUERY, FORWARD, Tiles

# S positions of the row, H heads, N heads of keys, D width of a head
HEADS, WIDTH, SCALING = 32, 128, 128**-0.5
BATCHES = (  # studies, their shortest length, heads of keys; all tiles are compared for the first three
    (64, 141, 32),
    (32, 141, 32),
    (8, 141, 32),
    (64, 141, 8),
    (32, 241, 32),
    (16, 493, 32),
)
# of the forward pass, and of the gradients of queries and of keys and values; one differs from the default at a time
TILES = {
    "forward": (Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 2), Tiles(64, 32, 4, 3), Tiles(128, 32, 8, 2)),
    "query": (Tiles(64, 32, 4, 2), Tiles(64, 32, 4, 1), Tiles(64, 64, 4, 1), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 3)),
    "key": (Tiles(64, 32, 4, 1), Tiles(64, 32, 4, 2), Tiles(64, 64, 4, 1), Tiles(64, 64, 8, 1), Tiles(64, 16, 4, 2)),
}
DEFAULT = {"forward": FORWARD, "query": BACKWARD_QUERY, "key": BACKWARD_KEY}
COPIES, REPEATS, CHECKED = 6, 50, 8  # CHECKED studies at once, since the mask of by_mask is [S, S]


@dataclass(frozen=True)
class Batch:
    starts: torch.Tensor
    longest: int
    inputs: list[list[torch.Tensor]]  # of each copy: query, key, value and the gradient of the result

    @classmethod
    def drawn(cls, studies: int, shortest: int, shared: int) -> "Batch":
        lengths = [shortest + 5 * i % 13 for i in range(studies)]
        lengths.append(-sum(lengths) % 64)
        counts = (HEADS, shared, shared, HEADS)
        return cls(
            torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device="cuda"),
            -(-max(lengths) // 64) * 64,
            [
                [torch.randn(sum(lengths), heads, WIDTH, device="cuda").bfloat16() for heads in counts]
                for _ in range(COPIES)
            ],
        )

    @property
    def gb(self) -> tuple[float, float]:
        """What forward and backward read and write at least: backward reads and writes all, and reads the result."""
        query, key = (x.nbytes / 1e9 for x in self.inputs[0][:2])
        return 2 * query + 2 * key, 4 * query + 4 * key


Way = tuple[Callable[[int], list[torch.Tensor]], Callable[[int], list[torch.Tensor]]]  # of the number of a copy


def by_torch(batch: Batch) -> Way:
    arguments = {"scaling": SCALING, "window": None}
    graphs = []
    for *inputs, _ in batch.inputs:
        leaves = [x.detach().requires_grad_() for x in inputs]
        graphs.append((packed_attention._by_kernel(*leaves, batch.starts, batch.longest, **arguments), leaves))

    def forward(i: int) -> list[torch.Tensor]:
        return [packed_attention._by_kernel(*batch.inputs[i][:3], batch.starts, batch.longest, **arguments)]

    def backward(i: int) -> list[torch.Tensor]:
        return list(torch.autograd.grad(*graphs[i], batch.inputs[i][3], retain_graph=True))

    return forward, backward


def by_cudnn(batch: Batch) -> Way:
    aten, ends = torch.ops.aten, {"cum_seq_q": batch.starts, "cum_seq_k": batch.starts}
    ends |= {"max_q": batch.longest, "max_k": batch.longest, "is_causal": True, "dropout_p": 0.0, "scale": SCALING}

    def forward(i: int) -> list[torch.Tensor]:
        results = aten._cudnn_attention_forward(*batch.inputs[i][:3], None, compute_log_sumexp=True, **ends)
        return [results[0], results[1], results[6], results[7]]

    saved = [forward(i) for i in range(COPIES)]

    def backward(i: int) -> list[torch.Tensor]:
        *inputs, d_out = batch.inputs[i]
        return list(aten._cudnn_attention_backward(d_out, *inputs, *saved[i], None, **ends))

    return forward, backward


def by_tiles(batch: Batch, tiles: dict[str, Tiles]) -> Way:
    arguments = (batch.longest, SCALING, 0)
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []

    def row(i: int) -> tuple[torch.Tensor, ...]:
        query, key, value, _ = batch.inputs[i]
        return query, key, value, key[:0], value[:0], batch.starts  # without an opening

    def forward(i: int) -> list[torch.Tensor]:
        return list(packed_operator.forward(*row(i), *arguments, tiles=tiles["forward"]))

    def backward(i: int) -> list[torch.Tensor]:
        if not saved:
            saved.extend(packed_operator.forward(*row(number), *arguments) for number in range(COPIES))
        chosen = {"query_tiles": tiles["query"], "key_tiles": tiles["key"]}
        return list(packed_operator.backward(batch.inputs[i][3], *row(i), *saved[i], *arguments, **chosen))

    return forward, backward


def exact(batch: Batch) -> list[torch.Tensor]:
    """The result and the gradients of the first copy in fp32."""
    parts, ends = [], batch.starts.tolist()
    for first in range(0, len(ends) - 1, CHECKED):
        some = ends[first : first + CHECKED + 1]
        *inputs, d_out = (x[some[0] : some[-1]].float() for x in batch.inputs[0])
        leaves = [x.requires_grad_() for x in inputs]
        starts = batch.starts[first : first + CHECKED + 1] - some[0]
        out = packed_attention.by_mask(*leaves, starts, scaling=SCALING, window=None)
        parts.append((out.detach(), *torch.autograd.grad(out, leaves, d_out)))
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def errors(results: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    return [float((x.float() - y).abs().max()) for x, y in zip(results, expected, strict=False)]


def call_us(work: Callable[[int], Any]) -> float:
    for i in range(COPIES):
        work(i)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(50_000_000)  # cycles: some 30 ms, in which the CPU queues the calls
    start.record()
    for i in range(REPEATS):
        work(i % COPIES)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) * 1e3 / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cudnn", action="store_true", help="an illegal access there would end the other ways too")
    others = {"torch": by_torch} | ({"cuDNN": by_cudnn} if parser.parse_args().cudnn else {})
    print("studies  length  key heads  pass      way                       us    GB/s  error / torch's")
    packed_attention._load_kernel()
    packed_attention.packed_kernel.fits = lambda width, longest: False  # by_torch times torch's kernel
    for number, (studies, shortest, shared) in enumerate(BATCHES):
        torch.manual_seed(0)
        batch = Batch.drawn(studies, shortest, shared)
        expected = exact(batch)
        ways: list[tuple[str, str, Callable[[], Way]]] = [
            (name, way, partial(make, batch)) for (way, make), name in product(others.items(), ("forward", "backward"))
        ]
        for part, choices in TILES.items():
            for tiles in choices if number < 3 else (DEFAULT[part],):
                way = f"{part} {tiles.block}x{tiles.step}/{tiles.warps}/{tiles.stages}" + "*" * (tiles == DEFAULT[part])
                name = "forward" if part == "forward" else "backward"
                ways.append((name, way, partial(by_tiles, batch, DEFAULT | {part: tiles})))
        limits: dict[str, list[float]] = {}  # torch's errors
        for name, way, make_way in ways:
            line = f"{studies:7}  {shortest:>3}-{shortest + 12}  {shared:9}  {name:8}  {way:20}"
            try:
                work = make_way()[name == "backward"]
                error = errors(work(0), expected[:1] if name == "forward" else expected[1:])
                ratio = max(x / y for x, y in zip(error, limits.setdefault(name, error), strict=True))
                us = call_us(work)
                print(f"{line}  {us:7.1f}  {batch.gb[name == 'backward'] / us * 1e6:6.0f}  {ratio:.2f}", flush=True)
            except Exception as failure:  # the other ways still have their figures
                print(f"{line}  {type(failure).__name__}: {' '.join(str(failure).split())[:150]}", flush=True)


if __name__ == "__main__":
    main()
