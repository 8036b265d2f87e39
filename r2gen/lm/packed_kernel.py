"""Triton kernels of causal attention within each study of one row, for studies of about 150 positions.

The kernel of torch computes in tiles of 128 positions, so a study of 147 takes two, and most of the second is wasted.
Here a program computes one small tile of one study and one head of keys. Studies follow each other without gaps, and
how many tiles a study has is read on the GPU: a program whose tile is past the end of its study ends at once.
"""

import dataclasses

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch
    triton = None

# S positions of the row, H heads, N heads of keys, D width of a head

WIDTHS = (64, 128)  # of the heads that the kernels are for
LONGEST = 512  # with longer studies, torch's kernel is used


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How a kernel divides its work: `block` positions of a program, which loops over the others by `step`."""

    block: int
    step: int
    warps: int
    stages: int

    def options(self) -> dict[str, int]:
        return {"BLOCK": self.block, "STEP": self.step, "num_warps": self.warps, "num_stages": self.stages}


FORWARD = Tiles(64, 32, warps=4, stages=2)
BACKWARD_QUERY = Tiles(64, 32, warps=4, stages=2)
BACKWARD_KEY = Tiles(64, 32, warps=4, stages=2)
LOG2_E = 1.4426950408889634


def fits(width: int, longest: int) -> bool:
    """Whether these kernels are faster than torch's, for heads of this width and studies of at most this length."""
    return width in WIDTHS and longest <= LONGEST


if triton is not None:

    @triton.jit
    def _load(values, stride, row, length, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        place = row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
        return tl.load(values + place, mask=row[:, None] < length, other=0.0)

    @triton.jit
    def _store(values, stride, row, length, tile, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        place = row[:, None] * stride + tl.arange(0, WIDTH)[None, :]
        tl.store(values + place, tile.to(values.dtype.element_ty), mask=row[:, None] < length)

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]
        query,  # [S, H, D]; here and below, inputs have any strides, but a contiguous width; outputs are contiguous
        key,  # [S, N, D]
        value,
        starts,
        out,  # [S, H, D]
        log_sum,  # [H, S]: the logarithm to base 2 of the sum of each row's exponentials
        query_row,
        query_head,
        key_row,
        key_head,
        value_row,
        value_head,
        positions,
        scaling,  # times LOG2_E, since 2^x is cheaper than e^x
        window,
        GROUP: tl.constexpr,
        WIDTH: tl.constexpr,
        BLOCK: tl.constexpr,  # queries
        STEP: tl.constexpr,  # keys
    ):
        first, head, study = tl.program_id(0) * BLOCK, tl.program_id(1).to(tl.int64), tl.program_id(2)
        start = tl.load(starts + study).to(tl.int64)
        length = (tl.load(starts + study + 1) - start).to(tl.int32)
        if first >= length:
            return
        query += start * query_row + head * query_head
        key += start * key_row + head // GROUP * key_head
        value += start * value_row + head // GROUP * value_head
        row = first + tl.arange(0, BLOCK)
        q = _load(query, query_row, row, length, WIDTH)
        # Finite, so that a row that sees none of its first keys gets no NaN; its own position then outweighs the rest.
        largest = tl.full([BLOCK], -1e30, tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        acc = tl.zeros([BLOCK, WIDTH], tl.float32)
        for other in range(tl.maximum(first - window + 1, 0), tl.minimum(first + BLOCK, length), STEP):
            column = other + tl.arange(0, STEP)
            k = _load(key, key_row, column, length, WIDTH)
            distance = row[:, None] - column[None, :]
            seen = (distance >= 0) & (distance < window)
            scores = tl.where(seen, tl.dot(q, tl.trans(k)) * scaling, -1e30)
            higher = tl.maximum(largest, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            rescale = tl.exp2(largest - higher)
            v = _load(value, value_row, column, length, WIDTH)
            total = total * rescale + tl.sum(weights, 1)
            acc = acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v)
            largest = higher
        heads = tl.num_programs(1)
        _store(out + (start * heads + head) * WIDTH, heads * WIDTH, row, length, acc / total[:, None], WIDTH)
        tl.store(log_sum + head * positions + start + row, largest + tl.log2(total), mask=row < length)

    @triton.jit
    def _backward_query(  # type: ignore[no-untyped-def]
        query,  # [S, H, D]
        key,  # [S, N, D]
        value,
        starts,
        out,  # [S, H, D], contiguous
        log_sum,
        d_out,  # [S, H, D]
        d_query,  # [S, H, D]
        delta,  # [H, S]: the product of each row's result and its gradient, for _backward_key
        query_row,
        query_head,
        key_row,
        key_head,
        value_row,
        value_head,
        d_out_row,
        d_out_head,
        positions,
        scaling,
        window,
        GROUP: tl.constexpr,
        WIDTH: tl.constexpr,
        BLOCK: tl.constexpr,  # queries
        STEP: tl.constexpr,  # keys
        LOG2_E: tl.constexpr,
    ):
        first, head, study = tl.program_id(0) * BLOCK, tl.program_id(1).to(tl.int64), tl.program_id(2)
        start = tl.load(starts + study).to(tl.int64)
        length = (tl.load(starts + study + 1) - start).to(tl.int32)
        if first >= length:
            return
        out_row = tl.num_programs(1) * WIDTH
        key += start * key_row + head // GROUP * key_head
        value += start * value_row + head // GROUP * value_head
        row = first + tl.arange(0, BLOCK)
        q = _load(query + start * query_row + head * query_head, query_row, row, length, WIDTH)
        do = _load(d_out + start * d_out_row + head * d_out_head, d_out_row, row, length, WIDTH)
        o = _load(out + start * out_row + head * WIDTH, out_row, row, length, WIDTH)
        own_delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
        place = head * positions + start + row
        tl.store(delta + place, own_delta, mask=row < length)
        sums = tl.load(log_sum + place, mask=row < length, other=0.0)
        dq = tl.zeros([BLOCK, WIDTH], tl.float32)
        for other in range(tl.maximum(first - window + 1, 0), tl.minimum(first + BLOCK, length), STEP):
            column = other + tl.arange(0, STEP)
            k = _load(key, key_row, column, length, WIDTH)
            v = _load(value, value_row, column, length, WIDTH)
            distance = row[:, None] - column[None, :]
            seen = (distance >= 0) & (distance < window)
            scores = tl.dot(q, tl.trans(k)) * (scaling * LOG2_E)
            weights = tl.where(seen, tl.exp2(scores - sums[:, None]), 0.0)
            d_scores = weights * (tl.dot(do, tl.trans(v)) - own_delta[:, None])
            dq += tl.dot(d_scores.to(k.dtype), k)
        _store(d_query + start * out_row + head * WIDTH, out_row, row, length, dq * scaling, WIDTH)

    @triton.jit
    def _backward_key(  # type: ignore[no-untyped-def]
        query,  # [S, H, D]
        key,  # [S, N, D]
        value,
        starts,
        log_sum,
        delta,
        d_out,  # [S, H, D]
        d_key,  # [S, N, D]
        d_value,
        query_row,
        query_head,
        key_row,
        key_head,
        value_row,
        value_head,
        d_out_row,
        d_out_head,
        positions,
        scaling,
        window,
        GROUP: tl.constexpr,
        WIDTH: tl.constexpr,
        BLOCK: tl.constexpr,  # keys
        STEP: tl.constexpr,  # queries
        LOG2_E: tl.constexpr,
    ):
        first, shared, study = tl.program_id(0) * BLOCK, tl.program_id(1).to(tl.int64), tl.program_id(2)
        start = tl.load(starts + study).to(tl.int64)
        length = (tl.load(starts + study + 1) - start).to(tl.int32)
        if first >= length:
            return
        own = first + tl.arange(0, BLOCK)
        own_k = _load(key + start * key_row + shared * key_head, key_row, own, length, WIDTH)
        own_v = _load(value + start * value_row + shared * value_head, value_row, own, length, WIDTH)
        dk = tl.zeros([BLOCK, WIDTH], tl.float32)
        dv = tl.zeros([BLOCK, WIDTH], tl.float32)
        for i in range(GROUP):
            head = shared * GROUP + i
            for other in range(first, tl.minimum(first + BLOCK + window - 1, length), STEP):
                row = other + tl.arange(0, STEP)
                q = _load(query + start * query_row + head * query_head, query_row, row, length, WIDTH)
                do = _load(d_out + start * d_out_row + head * d_out_head, d_out_row, row, length, WIDTH)
                place = head * positions + start + row
                sums = tl.load(log_sum + place, mask=row < length, other=0.0)
                deltas = tl.load(delta + place, mask=row < length, other=0.0)
                distance = row[None, :] - own[:, None]
                seen = (distance >= 0) & (distance < window) & (row < length)[None, :]
                scores = tl.dot(own_k, tl.trans(q)) * (scaling * LOG2_E)  # keys by queries
                weights = tl.where(seen, tl.exp2(scores - sums[None, :]), 0.0)
                dv += tl.dot(weights.to(do.dtype), do)
                d_scores = weights * (tl.dot(own_v, tl.trans(do)) - deltas[None, :])
                dk += tl.dot(d_scores.to(q.dtype), q)
        shared_row = tl.num_programs(1) * WIDTH
        place = start * shared_row + shared * WIDTH
        _store(d_key + place, shared_row, own, length, dk * scaling, WIDTH)
        _store(d_value + place, shared_row, own, length, dv, WIDTH)


def forward(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float,
    window: int,
    tiles: Tiles = FORWARD,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result [S, H, D] and, for `backward`, the logarithms [H, S] of the sums; a window of 0 is none."""
    query_SHD, key_SND, value_SND = map(_with_contiguous_width, (query_SHD, key_SND, value_SND))
    positions, heads, width = query_SHD.shape
    out_SHD, log_sum_HS = outputs(query_SHD)
    _forward[(triton.cdiv(longest, tiles.block), heads, len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, starts, out_SHD, log_sum_HS),
        *(stride for tensor in (query_SHD, key_SND, value_SND) for stride in tensor.stride()[:2]),
        *(positions, scaling * LOG2_E, window or 2**30),
        GROUP=heads // key_SND.shape[1],
        WIDTH=width,
        **tiles.options(),
    )
    return out_SHD, log_sum_HS


def backward(
    d_out_SHD: torch.Tensor,
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    out_SHD: torch.Tensor,
    log_sum_HS: torch.Tensor,
    longest: int,
    scaling: float,
    window: int,
    query_tiles: Tiles = BACKWARD_QUERY,
    key_tiles: Tiles = BACKWARD_KEY,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of queries, keys and values: contiguous, and deterministic, since no atomics are used."""
    inputs = d_out_SHD, query_SHD, key_SND, value_SND
    d_out_SHD, query_SHD, key_SND, value_SND = map(_with_contiguous_width, inputs)
    positions, heads, width = query_SHD.shape
    gradients = gradients_of(query_SHD, key_SND, value_SND)
    delta_HS = torch.empty_like(log_sum_HS)
    of_batch = (
        *(stride for tensor in (query_SHD, key_SND, value_SND, d_out_SHD) for stride in tensor.stride()[:2]),
        *(positions, scaling, window or 2**30),
    )
    shape = {"GROUP": heads // key_SND.shape[1], "WIDTH": width, "LOG2_E": LOG2_E}
    _backward_query[(triton.cdiv(longest, query_tiles.block), heads, len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, starts, out_SHD, log_sum_HS, d_out_SHD, gradients[0], delta_HS, *of_batch),
        **shape,
        **query_tiles.options(),
    )
    _backward_key[(triton.cdiv(longest, key_tiles.block), key_SND.shape[1], len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, starts, log_sum_HS, delta_HS, d_out_SHD, *gradients[1:], *of_batch),
        **shape,
        **key_tiles.options(),
    )
    return gradients


def _with_contiguous_width(values: torch.Tensor) -> torch.Tensor:
    return values if values.stride(-1) == 1 else values.contiguous()


def outputs(query_SHD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    positions, heads, _ = query_SHD.shape
    return query_SHD.new_empty(query_SHD.shape), query_SHD.new_empty((heads, positions), dtype=torch.float32)


def gradients_of(
    query_SHD: torch.Tensor, key_SND: torch.Tensor, value_SND: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query_SHD.new_empty(query_SHD.shape), key_SND.new_empty(key_SND.shape), value_SND.new_empty(value_SND.shape)
