"""Attention of beams that share their prompt: one store of keys and values per study, which is a tree.

The columns of a study's store are its prompt, and after it one column for each beam of each generated token. A beam
attends to the prompt and to its own ancestors among the columns. So the prompt is read once for all beams, and beams
are reordered by a small table of ancestors instead of by copying keys and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, PreTrainedModel

from r2gen.lm import tree_kernel

NAME = "r2gen_tree"
# Tensors that transformers passes to attention besides queries, keys and values, and that change nothing here.
HARMLESS = {"position_ids", "cache_position", "position_embeddings", "cu_seq_lens_q", "cu_seq_lens_k"}

# S slots (one study each), K beams, H heads, N heads of keys, D width of a head, C columns of the store, G tokens of a
# report, R prompts that are computed together, T positions of a prompt


class UnsupportedAttentionError(Exception):
    """The attention of this model needs something that a tree does not have."""


@dataclass
class Tree:
    """The keys and values of S studies, and where their beams are.

    `prompt_S` is the length of each prompt, `fed_S` the number of tokens fed so far, including the current one, and
    `ancestors_SKG` the beam of each fed token in the ancestry of each beam.
    """

    columns: int
    prompt_S: torch.Tensor
    fed_S: torch.Tensor
    ancestors_SKG: torch.Tensor
    kernel: bool  # attention by the Triton kernel
    opening: int = 0  # positions with which all prompts begin; every slot has their keys and values
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)  # keys, values [S, N, C, D]
    computes: Literal["opening", "prompts", "tokens"] = "tokens"  # in the current pass
    places: tuple[torch.Tensor, torch.Tensor] = field(init=False)  # of the current positions: slot and first column
    longest: int = 0  # no study uses more columns; the rest is not read
    masks: dict[int, torch.Tensor] = field(default_factory=dict)  # by sliding window, of the current step
    lists: dict[int | None, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)  # the same for the kernel

    @property
    def beams(self) -> int:
        return self.ancestors_SKG.shape[1]

    def write(self, layer: int, key_BNQD: torch.Tensor, value_BNQD: torch.Tensor) -> None:
        """Store the keys and values of the opening, of prompts, or of the current token of each beam."""
        if layer not in self.layers:
            slots, (_, heads, _, width) = len(self.prompt_S), key_BNQD.shape
            shape = (slots, heads, self.columns, width)
            self.layers[layer] = (key_BNQD.new_zeros(shape), value_BNQD.new_zeros((*shape[:3], value_BNQD.shape[3])))
        keys_SNCD, values_SNCD = self.layers[layer]
        slot_R, first_R = self.places  # fewer than the rows of a group of prompts, which is padded
        if self.computes == "opening":
            key_BNQD, value_BNQD = (x.expand(len(slot_R), -1, -1, -1) for x in (key_BNQD, value_BNQD))
        if self.kernel:
            if key_BNQD.shape[3] != value_BNQD.shape[3]:
                raise UnsupportedAttentionError("keys and values of different widths")
            tree_kernel.store(key_BNQD, value_BNQD, keys_SNCD, values_SNCD, slot_R=slot_R, first_R=first_R)
            return
        column_RQ = first_R[:, None] + torch.arange(key_BNQD.shape[2], device=key_BNQD.device)
        keys_SNCD[slot_R[:, None], :, column_RQ] = key_BNQD[: len(slot_R)].transpose(1, 2)
        values_SNCD[slot_R[:, None], :, column_RQ] = value_BNQD[: len(slot_R)].transpose(1, 2)

    def begin(self, rows: torch.Tensor | None = None) -> None:
        """Prepare for a pass over the next token of all slots, or over the prompts of the slots `rows`."""
        if rows is None:
            slot_S = torch.arange(len(self.prompt_S), device=self.prompt_S.device)
            self._begin("tokens", slot_S, self.prompt_S + (self.fed_S - 1) * self.beams)
        else:
            self._begin("prompts", rows, torch.full_like(rows, self.opening))

    def begin_opening(self) -> None:
        """Prepare for a pass over the opening, whose keys and values go to all slots."""
        slot_S = torch.arange(len(self.prompt_S), device=self.prompt_S.device)
        self._begin("opening", slot_S, torch.zeros_like(slot_S))

    def _begin(
        self, computes: Literal["opening", "prompts", "tokens"], slot_R: torch.Tensor, first_R: torch.Tensor
    ) -> None:
        self.computes, self.places = computes, (slot_R, first_R)
        self.masks.clear()
        self.lists.clear()

    def behind_opening(
        self, layer: int, key_RNTD: torch.Tensor, value_RNTD: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of prompts with those of the opening in front."""
        if self.computes == "opening" or self.opening == 0:
            return key_RNTD, value_RNTD
        first = (stored[:1, :, : self.opening] for stored in self.layers[layer])
        key, value = (
            torch.cat([opening.expand(len(own), -1, -1, -1), own], dim=2)
            for opening, own in zip(first, (key_RNTD, value_RNTD), strict=True)
        )
        return key, value

    def live(self, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """See tree_kernel.live_columns."""
        if window not in self.lists:
            self.lists[window] = tree_kernel.live_columns(
                self.prompt_S, self.fed_S, self.ancestors_SKG, columns=self.columns, window=window
            )
        return self.lists[window]

    def visible(self, window: int | None) -> torch.Tensor:
        """The columns [S, K, C] that each beam attends to, of the first `longest` ones."""
        if (window or 0) not in self.masks:
            column_C = torch.arange(self.longest, device=self.prompt_S.device)
            token_SC = (column_C - self.prompt_S[:, None]).div(self.beams, rounding_mode="floor")
            beam_SC = (column_C - self.prompt_S[:, None]) % self.beams
            inside_SC = (token_SC >= 0) & (token_SC < self.fed_S[:, None])
            index_SKC = token_SC.clamp(0, self.ancestors_SKG.shape[2] - 1)[:, None].expand(-1, self.beams, -1)
            own_SKC = self.ancestors_SKG.gather(2, index_SKC) == beam_SC[:, None]
            mask_SKC = (own_SKC & inside_SC[:, None]) | (token_SC < 0)[:, None]
            if window:
                position_SC = torch.where(token_SC < 0, column_C, self.prompt_S[:, None] + token_SC)
                query_S = self.prompt_S + self.fed_S - 1
                mask_SKC &= (query_S[:, None] - position_SC < window)[:, None]
            self.masks[window or 0] = mask_SKC
        return self.masks[window or 0]


_tree: ContextVar[Tree] = ContextVar("tree")


@contextmanager
def attending_to(tree: Tree) -> Iterator[None]:
    """Let tree_attention work on this tree."""
    token = _tree.set(tree)
    try:
        yield
    finally:
        _tree.reset(token)


@torch.compiler.disable
def tree_attention(
    module: nn.Module,
    query_BHQD: torch.Tensor,
    key_BNQD: torch.Tensor,
    value_BNQD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: the result [B, Q, H, D] for prompts or for the next tokens.

    It works on the tree of `attending_to`. Some layers (StableLM's) do not pass arguments on to their attention.
    """
    tree = _tree.get()
    unknown = [name for name, value in others.items() if torch.is_tensor(value) and name not in HARMLESS]
    if unknown or attention_mask is not None:
        raise UnsupportedAttentionError(", ".join(unknown) or "attention_mask")
    layer: Any = module.layer_idx
    tree.write(layer, key_BNQD, value_BNQD)
    if tree.computes != "tokens":
        key_BNQD, value_BNQD = tree.behind_opening(layer, key_BNQD, value_BNQD)
        return _prompt(query_BHQD, key_BNQD, value_BNQD, scaling, window=sliding_window, softcap=softcap), None
    keys_SNCD, values_SNCD = tree.layers[layer]
    if tree.kernel:
        return tree_kernel.attend(
            query_BHQD,
            keys_SNCD,
            values_SNCD,
            prompt_S=tree.prompt_S,
            fed_S=tree.fed_S,
            ancestors_SKG=tree.ancestors_SKG,
            live=tree.live(sliding_window),
            opening=tree.opening,
            scaling=scaling,
            window=sliding_window,
            softcap=softcap,
        ), None
    return _next(query_BHQD, keys_SNCD, values_SNCD, scaling, tree=tree, window=sliding_window, softcap=softcap), None


def _prompt(
    query_RHTD: torch.Tensor,
    key_RNCD: torch.Tensor,
    value_RNCD: torch.Tensor,
    scaling: float | None,
    *,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention of the last T of C positions; padding is behind them, where none of them looks."""
    group, length, columns = query_RHTD.shape[1] // key_RNCD.shape[1], query_RHTD.shape[2], key_RNCD.shape[2]
    key_RHCD, value_RHCD = key_RNCD, value_RNCD
    if group > 1:
        key_RHCD, value_RHCD = key_RNCD.repeat_interleave(group, 1), value_RNCD.repeat_interleave(group, 1)
    mask_TC = None
    if softcap is not None or (window and window < columns):
        column_C = torch.arange(columns, device=query_RHTD.device)
        distance_TC = column_C[columns - length :, None] - column_C
        mask_TC = (distance_TC >= 0) & (distance_TC < (window or columns))
    if softcap is not None:
        result_RHTD = _capped(query_RHTD, key_RHCD, value_RHCD, scaling, mask=mask_TC, softcap=softcap)
    else:
        mask: Any = causal_lower_right(length, columns) if mask_TC is None and length < columns else mask_TC
        result_RHTD = F.scaled_dot_product_attention(
            query_RHTD, key_RHCD, value_RHCD, attn_mask=mask, scale=scaling, is_causal=mask is None
        )
    return result_RHTD.transpose(1, 2).contiguous()


def _next(
    query_SHKD: torch.Tensor,
    keys_SNCD: torch.Tensor,
    values_SNCD: torch.Tensor,
    scaling: float | None,
    *,
    tree: Tree,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """The plain twin of the Triton kernel, for every device and precision."""
    slots, heads, beams, width = query_SHKD.shape
    group = heads // keys_SNCD.shape[1]
    keys_SNCD, values_SNCD = keys_SNCD[:, :, : tree.longest], values_SNCD[:, :, : tree.longest]
    # the heads that share keys are further queries of one head, so that no keys are copied
    query_SNQD = query_SHKD.reshape(slots, -1, group * beams, width)
    mask_SNQC = tree.visible(window).repeat(1, group, 1)[:, None]
    if softcap is not None:
        result_SNQD = _capped(query_SNQD, keys_SNCD, values_SNCD, scaling, mask=mask_SNQC, softcap=softcap)
    else:
        result_SNQD = F.scaled_dot_product_attention(
            query_SNQD, keys_SNCD, values_SNCD, attn_mask=mask_SNQC, scale=scaling
        )
    return result_SNQD.reshape(slots, heads, beams, -1).transpose(1, 2).contiguous()


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    *,
    mask: torch.Tensor | None,
    softcap: float,
) -> torch.Tensor:
    """Attention whose scores are bounded by softcap * tanh(score / softcap), as in Gemma 2; fp32 softmax at least."""
    scores = softcap * torch.tanh(query @ key.transpose(-2, -1) * (scaling or query.shape[-1] ** -0.5) / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    precise = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(dim=-1, dtype=precise).to(query.dtype) @ value


@contextmanager
def attending_by(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Let the layers of a model call the attention that is registered under this name."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}.values()
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        for config, own in zip(configs, before, strict=True):
            config._attn_implementation = own


AttentionInterface.register(NAME, tree_attention)


def supports_tree(model: PreTrainedModel) -> bool:
    """Whether nothing in the configuration of this model speaks against a tree; agrees_with_model tries it.

    ALiBi counts columns. Layers that attend by chunks, or that have a state, need more than keys and values.
    bitsandbytes' layers cannot be in a CUDA graph.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [])
    return (
        not model.config.is_encoder_decoder
        and not getattr(config, "alibi", False)
        and kinds <= {"full_attention", "sliding_attention"}
        and len({parameter.device for parameter in model.parameters()}) == 1
        and not any(type(parameter).__module__.startswith("bitsandbytes") for parameter in model.parameters())
    )
