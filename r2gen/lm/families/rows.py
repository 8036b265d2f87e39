"""Fused query, key and value rows, taken apart on the way in and put together again on the way out.

Both operations serve weight [rows, width] and bias [rows]. Shapes that config.json does not promise are not refused
here: what is left over goes to the value, so that the loader names a tensor of the wrong shape.
"""

from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.core_model_loading import ConversionOps

# N query heads, K key and value heads, G = N // K query heads a group, D head width


def head_counts(config: PreTrainedConfig) -> tuple[int, int, int]:
    """N, K, D."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, int(config.num_key_value_heads), int(width)


def only_tensor(collected: Any) -> torch.Tensor:
    """transformers hands a tensor over bare or in a list of one."""
    if isinstance(collected, torch.Tensor):
        return collected
    (tensor,) = collected
    return tensor


class SplitQKV(ConversionOps):
    """Rows [q | k | v] to three tensors."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        heads, groups, width = head_counts(kwargs["config"])
        fused = only_tensor(input_dict[source_patterns[0]])
        query, key = heads * width, (heads + groups) * width
        parts = fused[:query], fused[query:key], fused[key:]
        return {name: part.contiguous() for name, part in zip(target_patterns, parts, strict=True)}

    @property
    def reverse_op(self) -> ConversionOps:
        return FuseQKV()


class FuseQKV(ConversionOps):
    """Three tensors to rows [q | k | v]."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        (target,) = target_patterns
        return {target: torch.cat([only_tensor(input_dict[name]) for name in source_patterns])}

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitQKV()


class SplitGroupedQKV(ConversionOps):
    """Rows [K, (G queries, key, value), D] to three tensors: each key head stands behind its own queries."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        heads, groups, width = head_counts(kwargs["config"])
        fused = only_tensor(input_dict[source_patterns[0]])
        if fused.shape[0] == (heads + 2 * groups) * width:
            grouped = fused.unflatten(0, (groups, heads // groups + 2, width))
            parts = grouped[:, :-2].flatten(0, 2), grouped[:, -2].flatten(0, 1), grouped[:, -1].flatten(0, 1)
        else:
            parts = fused[:0], fused[:0], fused
        return {name: part.contiguous() for name, part in zip(target_patterns, parts, strict=True)}

    @property
    def reverse_op(self) -> ConversionOps:
        return FuseGroupedQKV()


class FuseGroupedQKV(ConversionOps):
    """Three tensors to rows [K, (G queries, key, value), D]."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        _, groups, width = head_counts(kwargs["config"])
        (target,) = target_patterns
        parts = [only_tensor(input_dict[name]).unflatten(0, (groups, -1, width)) for name in source_patterns]
        return {target: torch.cat(parts, dim=1).flatten(0, 2)}

    @property
    def reverse_op(self) -> ConversionOps:
        return SplitGroupedQKV()
