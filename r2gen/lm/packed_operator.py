"""The kernels of packed attention as operators of torch, with their gradients; torch.compile takes them as they are."""

import dataclasses

import torch

from r2gen.lm import packed_kernel

# S positions of the row, P of the opening, H heads, N heads of keys, D width of a head


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


def attend(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    *,
    scaling: float | None,
    window: int | None,
    opening: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """The result [S, H, D], contiguous, with gradients; H is a multiple of N, and neither input is copied.

    `starts` is int32: where each study begins, and the end of the row. `longest` is no less than any study's length.
    `opening` is keys and values [P, N, D], contiguous, in front of those of every study; they get no gradient.
    """
    scaling = query_SHD.shape[2] ** -0.5 if scaling is None else scaling
    row = query_SHD, key_SND, value_SND, *(opening or (key_SND[:0], value_SND[:0])), starts
    result_SHD: torch.Tensor = _attend(*row, longest, scaling, window or 0)[0]
    return result_SHD


def forward(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    opening_key_PND: torch.Tensor,
    opening_value_PND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float,
    window: int,
    tiles: Tiles = FORWARD,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result [S, H, D] and, for `backward`, the logarithms [H, S] of the sums; a window of 0 is none.

    The opening is contiguous, and may be empty.
    """
    query_SHD, key_SND, value_SND = map(_with_contiguous_width, (query_SHD, key_SND, value_SND))
    positions, heads, width = query_SHD.shape
    out_SHD, log_sum_HS = outputs(query_SHD)
    opening = opening_key_PND.shape[0]
    packed_kernel.attend_tile[(_tiles(longest, tiles.block), heads, len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, opening_key_PND, opening_value_PND, starts, out_SHD, log_sum_HS),
        *(stride for tensor in (query_SHD, key_SND, value_SND) for stride in tensor.stride()[:2]),
        *(positions, opening, scaling * packed_kernel.LOG2_E, window or 2**30),
        OPENING=_at_a_time(opening),
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
    opening_key_PND: torch.Tensor,
    opening_value_PND: torch.Tensor,
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
    opening = opening_key_PND.shape[0]
    strides = [stride for tensor in (query_SHD, key_SND, value_SND, d_out_SHD) for stride in tensor.stride()[:2]]
    shape = {"GROUP": heads // key_SND.shape[1], "WIDTH": width, "LOG2_E": packed_kernel.LOG2_E}
    packed_kernel.query_gradient_tile[(_tiles(longest, query_tiles.block), heads, len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, opening_key_PND, opening_value_PND, starts, out_SHD, log_sum_HS),
        *(d_out_SHD, gradients[0], delta_HS, *strides, positions, opening, scaling, window or 2**30),
        OPENING=_at_a_time(opening),
        **shape,
        **query_tiles.options(),
    )
    packed_kernel.key_gradient_tile[(_tiles(longest, key_tiles.block), key_SND.shape[1], len(starts) - 1)](
        *(query_SHD, key_SND, value_SND, starts, log_sum_HS, delta_HS, d_out_SHD, *gradients[1:]),
        *(*strides, positions, scaling, window or 2**30),
        **shape,
        **key_tiles.options(),
    )
    return gradients


def _tiles(length: int, block: int) -> int:
    return -(-length // block)


def _at_a_time(opening: int) -> int:
    """How many keys of the opening a program reads at a time."""
    return min(32, -(-opening // 16) * 16)


def _with_contiguous_width(values: torch.Tensor) -> torch.Tensor:
    return values if values.stride(-1) == 1 else values.contiguous()


def outputs(query_SHD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    positions, heads, _ = query_SHD.shape
    return query_SHD.new_empty(query_SHD.shape), query_SHD.new_empty((heads, positions), dtype=torch.float32)


def gradients_of(
    query_SHD: torch.Tensor, key_SND: torch.Tensor, value_SND: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query_SHD.new_empty(query_SHD.shape), key_SND.new_empty(key_SND.shape), value_SND.new_empty(value_SND.shape)


ROW = "Tensor query, Tensor key, Tensor value, Tensor opening_key, Tensor opening_value, Tensor starts"
OPTIONS = "SymInt longest, float scaling, SymInt window"
_attend = torch.library.custom_op(
    "r2gen::packed_attention", forward, mutates_args=(), schema=f"({ROW}, {OPTIONS}) -> (Tensor, Tensor)"
)
_attend_backward = torch.library.custom_op(
    "r2gen::packed_attention_backward",
    backward,
    mutates_args=(),
    schema=f"(Tensor d_out, {ROW}, Tensor out, Tensor log_sum, {OPTIONS}) -> (Tensor, Tensor, Tensor)",
)
_attend.register_fake(lambda query_SHD, *_: outputs(query_SHD))
_attend_backward.register_fake(lambda _, query, key, value, *others: gradients_of(query, key, value))


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.longest, ctx.scaling, ctx.window = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)  # for the logarithms, which have none


def _differentiate(ctx, d_out_SHD, _):  # type: ignore[no-untyped-def]
    gradients = _attend_backward(d_out_SHD, *ctx.saved_tensors, ctx.longest, ctx.scaling, ctx.window)
    return *gradients, None, None, None, None, None, None


_attend.register_autograd(_differentiate, setup_context=_save)
