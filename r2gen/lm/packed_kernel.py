"""Triton kernels of causal attention within each study of one row, for studies of about 150 positions.

The kernel of torch computes in tiles of 128 positions, so a study of 147 takes two, and most of the second is wasted.
Here a program computes one small tile of one study and one head of keys. Studies follow each other without gaps, and
how many tiles a study has is read on the GPU: a program whose tile is past the end of its study ends at once.

Every study also attends to the keys and values of an opening that all studies share, if there is one; these have no
gradient (lm/opening.py).
"""

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch
    triton = None

# S positions of the row, P of the opening, H heads, N heads of keys, D width of a head

WIDTHS = (64, 128)  # of the heads that the kernels are for
LONGEST = 512  # with longer studies, torch's kernel is used
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
    def _sees(row, column, window):  # type: ignore[no-untyped-def]
        distance = row[:, None] - column[None, :]
        return (distance >= 0) & (distance < window)

    @triton.jit
    def _attend(  # type: ignore[no-untyped-def]
        q, key, key_row, value, value_row, column, length, seen, scaling, largest, total, acc, WIDTH: tl.constexpr
    ):
        k = _load(key, key_row, column, length, WIDTH)
        scores = tl.where(seen, tl.dot(q, tl.trans(k)) * scaling, -1e30)
        higher = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        rescale = tl.exp2(largest - higher)
        v = _load(value, value_row, column, length, WIDTH)
        return higher, total * rescale + tl.sum(weights, 1), acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v)

    @triton.jit
    def _query_gradient(  # type: ignore[no-untyped-def]
        q, do, sums, delta, key, key_row, value, value_row, column, length, seen, exponent, WIDTH: tl.constexpr
    ):
        k = _load(key, key_row, column, length, WIDTH)
        v = _load(value, value_row, column, length, WIDTH)
        weights = tl.where(seen, tl.exp2(tl.dot(q, tl.trans(k)) * exponent - sums[:, None]), 0.0)
        d_scores = weights * (tl.dot(do, tl.trans(v)) - delta[:, None])
        return tl.dot(d_scores.to(k.dtype), k)

    @triton.jit
    def attend_tile(  # type: ignore[no-untyped-def]
        query,  # [S, H, D]; here and below, inputs have any strides, but a contiguous width; outputs are contiguous
        key,  # [S, N, D]
        value,
        opening_key,  # [P, N, D], contiguous
        opening_value,
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
        opening,  # its length P
        scaling,  # times LOG2_E, since 2^x is cheaper than e^x
        window,
        OPENING: tl.constexpr,  # keys of it at a time; 0: there is none
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
        if OPENING > 0:
            shared, shared_row = head // GROUP * WIDTH, tl.num_programs(1) // GROUP * WIDTH
            keys, values = opening_key + shared, opening_value + shared
            for other in range(0, opening, OPENING):
                column = other + tl.arange(0, OPENING)
                seen = (column < opening)[None, :] & _sees(opening + row, column, window)
                largest, total, acc = _attend(
                    q, keys, shared_row, values, shared_row, column, opening, seen, scaling, largest, total, acc, WIDTH
                )
        for other in range(tl.maximum(first - window + 1, 0), tl.minimum(first + BLOCK, length), STEP):
            column = other + tl.arange(0, STEP)
            seen = _sees(row, column, window)
            largest, total, acc = _attend(
                q, key, key_row, value, value_row, column, length, seen, scaling, largest, total, acc, WIDTH
            )
        heads = tl.num_programs(1)
        _store(out + (start * heads + head) * WIDTH, heads * WIDTH, row, length, acc / total[:, None], WIDTH)
        tl.store(log_sum + head * positions + start + row, largest + tl.log2(total), mask=row < length)

    @triton.jit
    def query_gradient_tile(  # type: ignore[no-untyped-def]
        query,  # [S, H, D]
        key,  # [S, N, D]
        value,
        opening_key,  # [P, N, D], contiguous
        opening_value,
        starts,
        out,  # [S, H, D], contiguous
        log_sum,
        d_out,  # [S, H, D]
        d_query,  # [S, H, D]
        delta,  # [H, S]: the product of each row's result and its gradient, for key_gradient_tile
        query_row,
        query_head,
        key_row,
        key_head,
        value_row,
        value_head,
        d_out_row,
        d_out_head,
        positions,
        opening,
        scaling,
        window,
        OPENING: tl.constexpr,
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
        exponent = scaling * LOG2_E
        if OPENING > 0:
            shared, shared_row = head // GROUP * WIDTH, tl.num_programs(1) // GROUP * WIDTH
            keys, values = opening_key + shared, opening_value + shared
            for other in range(0, opening, OPENING):
                column = other + tl.arange(0, OPENING)
                seen = (column < opening)[None, :] & _sees(opening + row, column, window)
                dq += _query_gradient(
                    q, do, sums, own_delta, keys, shared_row, values, shared_row, column, opening, seen, exponent, WIDTH
                )
        for other in range(tl.maximum(first - window + 1, 0), tl.minimum(first + BLOCK, length), STEP):
            column = other + tl.arange(0, STEP)
            seen = _sees(row, column, window)
            dq += _query_gradient(
                q, do, sums, own_delta, key, key_row, value, value_row, column, length, seen, exponent, WIDTH
            )
        _store(d_query + start * out_row + head * WIDTH, out_row, row, length, dq * scaling, WIDTH)

    @triton.jit
    def key_gradient_tile(  # type: ignore[no-untyped-def]
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
