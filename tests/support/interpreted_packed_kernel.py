"""Compare the kernels of packed attention with their plain twin, in Triton's interpreter (TRITON_INTERPRET=1).

With the argument `compiled` in compiled layers, otherwise by themselves.
"""

import sys
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from transformers import LlamaConfig, LlamaModel

from r2gen.lm import packed_attention, packed_kernel, packed_operator

# S positions of the row, H heads, N heads of keys, D width of a head


@dataclass(frozen=True)
class Case:
    lengths: tuple[int, ...]
    heads: int
    shared: int  # heads of keys
    window: int | None = None
    scaling: float | None = None
    strided: bool = False
    tiles: tuple[int, int] = (64, 32)
    width: int = 16
    opening: int = 0


CASES = [
    Case((1, 5, 64, 70, 130, 0), 1, 1),
    Case((1, 5, 64, 70, 130, 50), 1, 1, tiles=(32, 64)),
    Case((5, 70, 0), 4, 2, scaling=0.5, strided=True),
    Case((70, 5, 53), 4, 1, tiles=(64, 64)),
    Case((3, 130, 59), 2, 1, window=40),
    Case((70, 20), 1, 1, window=1, tiles=(16, 64)),
    Case((65, 63), 1, 1, width=64, strided=True),
    Case((70, 5, 53), 4, 2, opening=6, strided=True),
    Case((3, 70, 55), 2, 1, opening=40),
    Case((5, 70, 53), 2, 2, opening=20, window=12, tiles=(32, 16)),
    Case((5, 70, 53), 1, 1, opening=33, window=40, scaling=0.5),
]


def drawn(case: Case, positions: int) -> list[torch.Tensor]:
    """Queries, keys, values and the gradient of the result; strided: as parts of one tensor, as of [H, S, D]."""
    source = torch.Generator().manual_seed(0)
    counts = [case.heads, case.shared, case.shared, case.heads]
    if not case.strided:
        return [torch.randn(positions, heads, case.width, generator=source) for heads in counts]
    fused_HSD = torch.randn(sum(counts), positions, case.width + 8, generator=source)
    return [part.transpose(0, 1)[..., : case.width] for part in fused_HSD.split(counts)]


def compare(case: Case) -> None:
    starts = torch.tensor([0, *accumulate(case.lengths)], dtype=torch.int32)
    longest = -(-max(case.lengths) // 64) * 64
    *inputs, d_out_SHD = drawn(case, sum(case.lengths))
    _, *opening, _ = (x.contiguous() for x in drawn(case, case.opening))
    scaling = case.scaling or case.width**-0.5
    exact = [x.double().requires_grad_() for x in inputs]
    exact_opening = tuple(x.double() for x in opening)
    result_SHD = packed_attention.by_mask(
        *exact, starts, scaling=scaling, window=case.window, opening=exact_opening if case.opening else None
    )
    expected = [result_SHD, *torch.autograd.grad(result_SHD, exact, d_out_SHD.double())]

    arguments, tiles = (longest, scaling, case.window or 0), packed_operator.Tiles(*case.tiles, warps=4, stages=1)
    out_SHD, log_sum_HS = packed_operator.forward(*inputs, *opening, starts, *arguments, tiles=tiles)
    gradients = packed_operator.backward(
        *(d_out_SHD, *inputs, *opening, starts, out_SHD, log_sum_HS, *arguments), query_tiles=tiles, key_tiles=tiles
    )
    leaves = [x.requires_grad_() for x in inputs]
    attended_SHD = packed_operator.attend(
        *leaves, starts, longest, scaling=case.scaling, window=case.window, opening=tuple(opening)
    )
    by_autograd = [attended_SHD, *torch.autograd.grad(attended_SHD, leaves, d_out_SHD)]
    for computed in ([out_SHD, *gradients], by_autograd):
        for x, y in zip(computed, expected, strict=True):
            assert x.is_contiguous(), case
            torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=2e-5)
    print("equal", case)


def compare_compiled() -> None:
    """Compiled decoder layers call the kernels without a graph break, for rows of several lengths, after an opening."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation=packed_attention.NAME,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaModel(config).requires_grad_(False)
    for layer in model.layers:
        layer.self_attn.opening = torch.randn(2, 6, 2, 16).unbind()  # type: ignore[assignment]
    plain = packed_attention.by_mask

    def by_kernel(query_SHD, key_SND, value_SND, starts, **options: Any):  # type: ignore[no-untyped-def]
        return packed_operator.attend(query_SHD, key_SND, value_SND, starts, longest, **options)

    for lengths, after_opening in (((9, 55), False), ((70, 30, 28), True), ((128,), True)):
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        longest = -(-max(lengths) // 64) * 64
        embeds_1SE = torch.randn(1, sum(lengths), 64).requires_grad_()
        results = []
        for compiled in (False, True):
            packed_attention.by_mask = by_kernel if compiled else plain
            if compiled:
                for layer in model.layers:
                    layer.forward = torch.compile(type(layer).forward.__get__(layer), dynamic=True, fullgraph=True)
            result_1SE = model(
                inputs_embeds=embeds_1SE,
                position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
                cu_seq_lens_q=starts,
                max_length_q=longest,
                after_opening=after_opening,
                use_cache=False,
            ).last_hidden_state
            results.append((result_1SE, *torch.autograd.grad(result_1SE.square().sum(), embeds_1SE)))
            for layer in model.layers:
                layer.__dict__.pop("forward", None)
        for x, y in zip(*results, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    print("equal compiled")


if __name__ == "__main__":
    assert packed_kernel.triton is not None
    if sys.argv[1:] == ["compiled"]:
        compare_compiled()
    else:
        for case in CASES:
            compare(case)
