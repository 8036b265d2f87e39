"""Operations that split a fused query-key-value tensor when weights are read and fuse it again when they are saved.

They serve weights [rows, width] and biases [rows]. A tensor whose shape contradicts config.json is not refused here:
the surplus goes to the value, so that the loader reports a tensor of the wrong shape.
"""

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.core_model_loading import ConversionOps

from r2gen.config.plain import Plain

Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # query, key, value
# N query heads, K key and value heads, G = N // K query heads per key head, D head width


def head_counts(config: PreTrainedConfig) -> tuple[int, int, int]:
    """N, K, D."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, int(config.num_key_value_heads), int(width)


def only_tensor(collected: Any) -> torch.Tensor:
    """transformers passes a tensor either bare or in a list of one."""
    if isinstance(collected, torch.Tensor):
        return collected
    (tensor,) = collected
    return tensor


class _Split(ConversionOps):
    @torch.no_grad()
    def convert(
        self, input_dict: Plain, source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> Plain:
        parts = self.split(only_tensor(input_dict[source_patterns[0]]), *head_counts(kwargs["config"]))
        return {name: part.contiguous() for name, part in zip(target_patterns, parts, strict=True)}

    def split(self, fused: torch.Tensor, heads: int, groups: int, width: int) -> Parts:
        raise NotImplementedError


class _Fuse(ConversionOps):
    @torch.no_grad()
    def convert(
        self, input_dict: Plain, source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> Plain:
        (target,) = target_patterns
        query, key, value = (only_tensor(input_dict[name]) for name in source_patterns)
        return {target: self.fuse((query, key, value), *head_counts(kwargs["config"]))}

    def fuse(self, parts: Parts, heads: int, groups: int, width: int) -> torch.Tensor:
        raise NotImplementedError


class SplitQKV(_Split):
    """Split rows in the order [query | key | value]."""

    def split(self, fused: torch.Tensor, heads: int, groups: int, width: int) -> Parts:
        query, key = heads * width, (heads + groups) * width
        return fused[:query], fused[query:key], fused[key:]

    @property
    def reverse_op(self) -> ConversionOps:
        return FuseQKV()


class FuseQKV(_Fuse):
    """Fuse to rows in the order [query | key | value]."""

    def fuse(self, parts: Parts, heads: int, groups: int, width: int) -> torch.Tensor:
        return torch.cat(parts)

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitQKV()


class SplitGroupedQKV(_Split):
    """Split rows in the order [K, (G queries, key, value), D]: each key head follows its own query heads."""

    def split(self, fused: torch.Tensor, heads: int, groups: int, width: int) -> Parts:
        if fused.shape[0] != (heads + 2 * groups) * width:
            return fused[:0], fused[:0], fused
        grouped = fused.unflatten(0, (groups, heads // groups + 2, width))
        return grouped[:, :-2].flatten(0, 2), grouped[:, -2].flatten(0, 1), grouped[:, -1].flatten(0, 1)

    @property
    def reverse_op(self) -> ConversionOps:
        return FuseGroupedQKV()


class FuseGroupedQKV(_Fuse):
    """Fuse to rows in the order [K, (G queries, key, value), D]."""

    def fuse(self, parts: Parts, heads: int, groups: int, width: int) -> torch.Tensor:
        return torch.cat([part.unflatten(0, (groups, -1, width)) for part in parts], dim=1).flatten(0, 2)

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitGroupedQKV()
