"""The Triton kernel of tree attention: each study reads its own columns once, for all beams and shared heads."""

from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch
    triton = None

# S slots, K beams, H heads, N heads of keys, D width of a head, C columns, G tokens of a report

# The block of columns, warps and stages up to a number of programs (slots times heads of keys). Of 21 combinations on
# one NVIDIA H200 these were within 5 % of the best with three beams in 1, 12, 32 and 256 slots, and greedily in 768.
# Few programs gain from large blocks, since each waits for its own loads; many from small ones, since the others fill
# the gaps.
TILES = ((132, (128, 4, 2)), (2**31, (32, 1, 2)))
ROWS_PER_WARP, MOST_WARPS = 16, 8  # of queries, which share keys
STORED = 16  # keys and values of a head and a position that a program stores
WITHOUT_WINDOW = 2**30

if triton is not None:

    @triton.jit
    def _list_live(  # type: ignore[no-untyped-def]
        ancestors,  # [S, K, G], contiguous
        prompt_S,
        fed_S,
        live,  # [S, C], contiguous
        count_S,
        columns,
        tokens,
        window,
        BEAMS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        slot = tl.program_id(0)
        prompt, fed = tl.load(prompt_S + slot).to(tl.int32), tl.load(fed_S + slot).to(tl.int32)
        oldest = tl.maximum(prompt + fed - window, 0)  # the first position inside the sliding window
        last = prompt + fed * BEAMS
        listed = 0
        for block in range(0, last, BLOCK):
            column = block + tl.arange(0, BLOCK)
            generated = (column >= prompt) & (column < last)
            token, of_beam = (column - prompt) // BEAMS, (column - prompt) % BEAMS
            alive = column < prompt
            for beam in range(BEAMS):
                ancestor = tl.load(ancestors + (slot * BEAMS + beam) * tokens + token, mask=generated, other=-1)
                alive = alive | (generated & (ancestor == of_beam))
            alive = alive & (tl.where(generated, prompt + token, column) >= oldest)
            number = alive.to(tl.int32)
            tl.store(live + slot * columns + listed + tl.cumsum(number, 0) - 1, column, mask=alive)
            listed += tl.sum(number, 0)
        tl.store(count_S + slot, listed)

    @triton.jit(do_not_specialize=["opening"])  # else it would be compiled for models with and without one
    def _attend(  # type: ignore[no-untyped-def]
        query,  # [S, H, K, D] with any strides
        keys,  # [S, N, C, D], contiguous
        values,
        ancestors,  # [S, K, G], contiguous
        prompt_S,
        fed_S,
        live,  # [S, C], contiguous; of one beam, all columns in the window are
        count_S,
        result,  # [S, K, H, D], contiguous
        query_slot,
        query_head,
        query_beam,
        columns,
        tokens,
        opening,
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
        base_of_opening = head.to(tl.int64) * columns * WIDTH  # in the first slot for all: it stays in the cache
        oldest = tl.maximum(prompt + fed - window, 0)  # the first position inside the sliding window
        count = prompt + fed - oldest if BEAMS == 1 else tl.load(count_S + slot)
        for block in range(0, count, BLOCK):
            number = block + tl.arange(0, BLOCK)
            exists = number < count
            if BEAMS == 1:
                column = oldest + number
                own = exists[None, :]
            else:
                column = tl.load(live + slot * columns + number, mask=exists, other=0)
                generated = (column >= prompt) & exists
                ancestor = tl.load(
                    ancestors + (slot * BEAMS + beam)[:, None] * tokens + ((column - prompt) // BEAMS)[None, :],
                    mask=used[:, None] & generated[None, :],
                    other=-1,
                )
                of_beam = tl.where(generated, (column - prompt) % BEAMS, -2)
                own = ((column < prompt) & exists)[None, :] | (ancestor == of_beam[None, :])
            place = (tl.where(column < opening, base_of_opening, base) + column * WIDTH)[:, None] + lane[None, :]
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
        key,  # [R, N, Q, D] with any strides, but a contiguous width
        value,
        keys,  # [S, N, C, D], contiguous
        values,
        slot_R,
        first_R,
        key_row,
        key_head,
        key_position,
        value_row,
        value_head,
        value_position,
        columns,
        heads,
        count,
        BLOCK: tl.constexpr,
        WIDTH: tl.constexpr,
        WIDTH_PADDED: tl.constexpr,
    ):
        row = tl.program_id(0).to(tl.int64)
        number, lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, WIDTH_PADDED)
        head, position = (number // count)[:, None], (number % count)[:, None]
        inside = (number < heads * count)[:, None] & (lane < WIDTH)[None, :]
        key += row * key_row + head * key_head + position * key_position + lane[None, :]
        value += row * value_row + head * value_head + position * value_position + lane[None, :]
        column = tl.load(first_R + row) + position
        place = ((tl.load(slot_R + row) * heads + head) * columns + column) * WIDTH + lane[None, :]
        tl.store(keys + place, tl.load(key, mask=inside), mask=inside)
        tl.store(values + place, tl.load(value, mask=inside), mask=inside)


def store(
    key_RNQD: torch.Tensor,
    value_RNQD: torch.Tensor,
    keys_SNCD: torch.Tensor,
    values_SNCD: torch.Tensor,
    *,
    slot_R: torch.Tensor,
    first_R: torch.Tensor,
) -> None:
    """Write keys and values into the columns of these slots from `first_R` on."""
    _, heads, count, width = key_RNQD.shape
    key_RNQD, value_RNQD = _with_contiguous_width(key_RNQD), _with_contiguous_width(value_RNQD)
    _store[(len(slot_R), triton.cdiv(heads * count, STORED))](
        key_RNQD,
        value_RNQD,
        keys_SNCD,
        values_SNCD,
        slot_R,
        first_R,
        *key_RNQD.stride()[:3],
        *value_RNQD.stride()[:3],
        keys_SNCD.shape[2],
        heads,
        count,
        BLOCK=STORED,
        WIDTH=width,
        WIDTH_PADDED=triton.next_power_of_2(width),
        num_warps=4,
    )


def live_columns(
    prompt_S: torch.Tensor, fed_S: torch.Tensor, ancestors_SKG: torch.Tensor, *, columns: int, window: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The columns [S, C] to which any beam attends, in their order, and how many they are [S].

    Beams soon have common ancestors, so that most columns of older tokens are of no beam any more. With one beam all
    columns are live, and the lists stay empty.
    """
    slots, beams, tokens = ancestors_SKG.shape
    live_SC = torch.empty(slots, columns, dtype=torch.int32, device=prompt_S.device)
    count_S = torch.empty(slots, dtype=torch.int32, device=prompt_S.device)
    if beams > 1:
        _list_live[(slots,)](
            ancestors_SKG,
            prompt_S,
            fed_S,
            live_SC,
            count_S,
            columns,
            tokens,
            window or WITHOUT_WINDOW,
            BEAMS=beams,
            BLOCK=128,
            num_warps=4,
        )
    return live_SC, count_S


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
    live: tuple[torch.Tensor, torch.Tensor],
    opening: int,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """The attention [S, K, H, D] of the current token of each beam to the prompt and to its ancestors.

    `live` is that of live_columns for the same window. All slots have the same keys and values in the first `opening`
    columns.
    """
    slots, heads, beams, width = query_SHKD.shape
    shared_heads = keys_SNCD.shape[1]
    group = heads // shared_heads
    result_SKHD = query_SHKD.new_empty(slots, beams, heads, width)
    query_SHKD = _with_contiguous_width(query_SHKD)
    padded = triton.next_power_of_2(width)
    rows = max(16, triton.next_power_of_2(group * beams))
    block, warps, stages = next(tile for most, tile in TILES if slots * shared_heads <= most)
    _attend[(slots, shared_heads)](
        query_SHKD,
        keys_SNCD,
        values_SNCD,
        ancestors_SKG,
        prompt_S,
        fed_S,
        *live,
        result_SKHD,
        *query_SHKD.stride()[:3],
        keys_SNCD.shape[2],
        ancestors_SKG.shape[2],
        opening,
        scaling if scaling is not None else width**-0.5,
        softcap or 0.0,
        window or WITHOUT_WINDOW,
        BEAMS=beams,
        GROUP=group,
        HEADS=heads,
        WIDTH=width,
        WIDTH_PADDED=padded,
        ROWS=rows,
        BLOCK=block if padded <= 128 else block // 2,
        CAPPED=softcap is not None,
        num_warps=min(MOST_WARPS, max(warps, rows // ROWS_PER_WARP)),
        num_stages=stages,
    )
    return result_SKHD
