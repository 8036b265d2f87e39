"""The Triton kernel of tree attention: each study reads its own columns once, for all beams and shared heads."""

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch
    triton = None

# S slots, K beams, H heads, N heads of keys, D width of a head, C columns, G tokens of a report

# The block of columns, warps and stages up to a number of programs (slots times heads of keys). Of 48 combinations on
# one NVIDIA H200 these were within 5 % of the best, from 1 to 512 slots: few programs gain from large blocks, since
# each waits for its own loads; many from small ones, since the others fill the gaps.
TILES = ((132, (128, 4, 3)), (1024, (64, 4, 2)), (2**31, (32, 2, 2)))

if triton is not None:

    @triton.jit
    def _attend(  # type: ignore[no-untyped-def]
        query,  # [S, H, K, D] with any strides
        keys,  # [S, N, C, D], contiguous
        values,
        ancestors,  # [S, K, G], contiguous
        prompt_S,
        fed_S,
        result,  # [S, K, H, D], contiguous
        query_slot,
        query_head,
        query_beam,
        columns,
        tokens,
        scaling,
        softcap,
        window,
        BEAMS: tl.constexpr,
        GROUP: tl.constexpr,
        HEADS: tl.constexpr,
        WIDTH: tl.constexpr,
        WIDTH_PADDED: tl.constexpr,
        ROWS: tl.constexpr,
        BLOCK: tl.constexpr,
        CAPPED: tl.constexpr,
    ):
        slot, head = tl.program_id(0), tl.program_id(1)
        prompt, fed = tl.load(prompt_S + slot).to(tl.int32), tl.load(fed_S + slot).to(tl.int32)
        row = tl.arange(0, ROWS)
        beam, shared = row % BEAMS, row // BEAMS
        used = row < BEAMS * GROUP
        lane = tl.arange(0, WIDTH_PADDED)
        in_width = lane < WIDTH
        start = query + slot.to(tl.int64) * query_slot
        q = tl.load(
            start + (head * GROUP + shared)[:, None] * query_head + beam[:, None] * query_beam + lane[None, :],
            mask=used[:, None] & in_width[None, :],
            other=0.0,
        )
        largest = tl.full([ROWS], -float("inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        acc = tl.zeros([ROWS, WIDTH_PADDED], tl.float32)
        base = (slot.to(tl.int64) * tl.num_programs(1) + head) * columns * WIDTH
        last = prompt + fed * BEAMS
        position = prompt + fed - 1
        oldest = tl.maximum(position - window + 1, 0)  # the first position inside the sliding window
        first = tl.where(oldest < prompt, oldest, prompt + (oldest - prompt) * BEAMS)
        for block in range(first // BLOCK * BLOCK, last, BLOCK):
            column = block + tl.arange(0, BLOCK)
            exists = column < last
            token = (column - prompt) // BEAMS
            of_beam = (column - prompt) % BEAMS
            generated = (column >= prompt) & exists
            ancestor = tl.load(
                ancestors + (slot * BEAMS + beam)[:, None] * tokens + tl.where(generated, token, 0)[None, :],
                mask=used[:, None] & generated[None, :],
                other=-1,
            )
            own = (column < prompt)[None, :] | (generated[None, :] & (ancestor == of_beam[None, :]))
            at = tl.where(generated, prompt + token, column)
            own = own & (at >= oldest)[None, :]
            place = base + column[:, None] * WIDTH + lane[None, :]
            k = tl.load(keys + place, mask=exists[:, None] & in_width[None, :], other=0.0)
            scores = tl.dot(q, tl.trans(k)) * scaling
            if CAPPED:
                ratio = scores / softcap
                power = tl.exp(-2.0 * tl.abs(ratio))
                scores = softcap * tl.where(ratio < 0, -1.0, 1.0) * (1.0 - power) / (1.0 + power)
            scores = tl.where(own, scores, -float("inf"))
            higher = tl.maximum(largest, tl.max(scores, 1))
            safe = tl.where(higher == -float("inf"), 0.0, higher)  # a row that has seen no column of its own yet
            weights = tl.exp(scores - safe[:, None])
            rescale = tl.exp(largest - safe)
            v = tl.load(values + place, mask=exists[:, None] & in_width[None, :], other=0.0)
            total = total * rescale + tl.sum(weights, 1)
            acc = acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v)
            largest = higher
        out = acc / tl.where(used, total, 1.0)[:, None]
        place = ((slot.to(tl.int64) * BEAMS + beam) * HEADS + head * GROUP + shared) * WIDTH
        tl.store(
            result + place[:, None] + lane[None, :],
            out.to(result.dtype.element_ty),
            mask=used[:, None] & in_width[None, :],
        )

    @triton.jit
    def _store(  # type: ignore[no-untyped-def]
        key,  # [S, N, K, D] with any strides, but a contiguous width
        value,
        keys,  # [S, N, C, D], contiguous
        values,
        prompt_S,
        fed_S,
        key_slot,
        key_head,
        key_beam,
        value_slot,
        value_head,
        value_beam,
        columns,
        BEAMS: tl.constexpr,
        BEAMS_PADDED: tl.constexpr,
        WIDTH: tl.constexpr,
        WIDTH_PADDED: tl.constexpr,
    ):
        slot, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
        beam, lane = tl.arange(0, BEAMS_PADDED), tl.arange(0, WIDTH_PADDED)
        inside = (beam < BEAMS)[:, None] & (lane < WIDTH)[None, :]
        column = tl.load(prompt_S + slot) + (tl.load(fed_S + slot) - 1) * BEAMS + beam
        place = ((slot * tl.num_programs(1) + head) * columns + column)[:, None] * WIDTH + lane[None, :]
        k = tl.load(key + slot * key_slot + head * key_head + beam[:, None] * key_beam + lane[None, :], mask=inside)
        v = tl.load(
            value + slot * value_slot + head * value_head + beam[:, None] * value_beam + lane[None, :], mask=inside
        )
        tl.store(keys + place, k, mask=inside)
        tl.store(values + place, v, mask=inside)


def store(
    key_SNKD: torch.Tensor,
    value_SNKD: torch.Tensor,
    keys_SNCD: torch.Tensor,
    values_SNCD: torch.Tensor,
    *,
    prompt_S: torch.Tensor,
    fed_S: torch.Tensor,
) -> None:
    """Write the keys and values of the current token of each beam into the columns of that token."""
    slots, heads, beams, width = key_SNKD.shape
    key_SNKD, value_SNKD = _with_contiguous_width(key_SNKD), _with_contiguous_width(value_SNKD)
    _store[(slots, heads)](
        key_SNKD,
        value_SNKD,
        keys_SNCD,
        values_SNCD,
        prompt_S,
        fed_S,
        *key_SNKD.stride()[:3],
        *value_SNKD.stride()[:3],
        keys_SNCD.shape[2],
        BEAMS=beams,
        BEAMS_PADDED=triton.next_power_of_2(beams),
        WIDTH=width,
        WIDTH_PADDED=triton.next_power_of_2(width),
        num_warps=1,
    )


def _with_contiguous_width(values: torch.Tensor) -> torch.Tensor:
    return values if values.stride(-1) == 1 else values.contiguous()


def available(model: Any) -> bool:
    """Whether the kernel serves this model: 16-bit weights on an NVIDIA GPU."""
    parameter = next(model.parameters())
    return triton is not None and parameter.device.type == "cuda" and model.dtype in (torch.bfloat16, torch.float16)


def attend(
    query_SHKD: torch.Tensor,
    keys_SNCD: torch.Tensor,
    values_SNCD: torch.Tensor,
    *,
    prompt_S: torch.Tensor,
    fed_S: torch.Tensor,
    ancestors_SKG: torch.Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """The attention [S, K, H, D] of the current token of each beam to the prompt and to its ancestors."""
    slots, heads, beams, width = query_SHKD.shape
    shared_heads = keys_SNCD.shape[1]
    group = heads // shared_heads
    result_SKHD = query_SHKD.new_empty(slots, beams, heads, width)
    query_SHKD = _with_contiguous_width(query_SHKD)
    padded = triton.next_power_of_2(width)
    block, warps, stages = next(tile for most, tile in TILES if slots * shared_heads <= most)
    _attend[(slots, shared_heads)](
        query_SHKD,
        keys_SNCD,
        values_SNCD,
        ancestors_SKG,
        prompt_S,
        fed_S,
        result_SKHD,
        *query_SHKD.stride()[:3],
        keys_SNCD.shape[2],
        ancestors_SKG.shape[2],
        scaling if scaling is not None else width**-0.5,
        softcap or 0.0,
        window or 2**30,
        BEAMS=beams,
        GROUP=group,
        HEADS=heads,
        WIDTH=width,
        WIDTH_PADDED=padded,
        ROWS=max(16, triton.next_power_of_2(group * beams)),
        BLOCK=block if padded <= 128 else block // 2,
        CAPPED=softcap is not None,
        num_warps=warps,
        num_stages=stages,
    )
    return result_SKHD
