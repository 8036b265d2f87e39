"""The kernels of packed attention as operators of torch, with their gradients; torch.compile takes them as they are."""

import torch

from r2gen.lm import packed_kernel

# S positions of the row, H heads, N heads of keys, D width of a head


def attend(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    *,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """The result [S, H, D], contiguous, with gradients; H is a multiple of N, and neither input is copied.

    `starts` is int32: where each study begins, and the end of the row. `longest` is no less than any study's length.
    """
    scaling = query_SHD.shape[2] ** -0.5 if scaling is None else scaling
    result_SHD: torch.Tensor = _attend(query_SHD, key_SND, value_SND, starts, longest, scaling, window or 0)[0]
    return result_SHD


@torch.library.custom_op("r2gen::packed_attention", mutates_args=())
def _attend(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return packed_kernel.forward(query_SHD, key_SND, value_SND, starts, longest, scaling, window)


@torch.library.custom_op("r2gen::packed_attention_backward", mutates_args=())
def _attend_backward(
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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tensors = d_out_SHD, query_SHD, key_SND, value_SND, starts, out_SHD, log_sum_HS
    return packed_kernel.backward(*tensors, longest, scaling, window)


_attend.register_fake(lambda query_SHD, *_: packed_kernel.outputs(query_SHD))
_attend_backward.register_fake(lambda _, query, key, value, *others: packed_kernel.gradients_of(query, key, value))


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.longest, ctx.scaling, ctx.window = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)  # for the logarithms, which have none


def _differentiate(ctx, d_out_SHD, _):  # type: ignore[no-untyped-def]
    gradients = _attend_backward(d_out_SHD, *ctx.saved_tensors, ctx.longest, ctx.scaling, ctx.window)
    return *gradients, None, None, None, None


_attend.register_autograd(_differentiate, setup_context=_save)
