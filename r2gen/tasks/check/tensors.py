"""Tests of all tensors of a model: whether they are finite, and whether a training step changed frozen ones."""

from collections.abc import Iterator

import torch
from torch import nn

from r2gen.lm.quantize import stored_tensors


def not_finite(model: nn.Module) -> str | None:
    """The name of a stored tensor with NaN or infinite values; None if there is none."""
    return next((name for name, tensor in stored_tensors(model) if not _is_finite(tensor)), None)


def _is_finite(tensor: torch.Tensor) -> bool:
    # Checking min and max is enough, since NaN propagates; it copies nothing.
    return not tensor.is_floating_point() or bool(torch.stack(tensor.aminmax()).isfinite().all())


def frozen_checksums(model: nn.Module) -> dict[str, int]:
    """A checksum of the bytes of every frozen tensor, by name."""
    checksums: dict[str, int] = {}
    for name, tensor in _frozen(model):
        flat = tensor.contiguous().flatten().view(torch.uint8)
        words = flat[: len(flat) // 8 * 8].view(torch.int64)  # their sum wraps around
        rest = flat[len(words) * 8 :]
        checksums[name] = hash((checksums.get(name, 0), int(words.sum()), int(rest.sum())))
    return checksums


def _frozen(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    # with the second name of tied embeddings
    trainable = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    yield from ((name, tensor) for name, tensor in stored_tensors(model) if name not in trainable)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if buffer.numel())
