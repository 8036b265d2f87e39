"""Baichuan-7B, Baichuan-13B, Baichuan2-7B and Baichuan2-13B as transformers' Llama.

The 13B models encode positions by ALiBi (Press et al., 2022) alone. The output layer of Baichuan2 normalises its rows.
Source: modeling_baichuan.py of baichuan-inc/Baichuan-13B-Chat and Baichuan2-7B-Chat.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.cache_utils import Cache

from r2gen.config.plain import Plain
from r2gen.lm.conversion.fused_qkv import SplitQKV
from r2gen.lm.conversion.tensor_names import fused_qkv
from r2gen.lm.family import Family

# B batch, N heads, Q positions computed now, K all positions including those in the cache, E width, V vocabulary
BAICHUAN2_VOCABULARY = 125696


def native(published: Mapping[str, Any]) -> Plain:
    """LlamaConfig's fields, with `alibi` and `norm_head`, which the published files do not state."""
    fields = dict(published)
    fields.setdefault("alibi", "max_position_embeddings" not in published)
    fields.setdefault("norm_head", published.get("vocab_size") == BAICHUAN2_VOCABULARY or "z_loss_weight" in published)
    if "model_max_length" in fields:
        fields.setdefault("max_position_embeddings", fields["model_max_length"])
    return fields


class BaichuanConfig(LlamaConfig):
    model_type = "baichuan"
    # save_pretrained writes both, since max_position_embeddings in its files no longer distinguishes the models.
    alibi: bool | None = None
    norm_head: bool | None = None

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


def slopes(heads: int, device: torch.device) -> torch.Tensor:
    """ALiBi's slope of each head: a geometric sequence; heads beyond a power of two take every other slope of the next
    finer sequence. Computed on the device, since a copy from the host would block in every step."""
    power = 1 << (heads.bit_length() - 1)
    head_N = torch.arange(heads, device=device)
    exponent_N = torch.where(head_N < power, 8 * (head_N + 1), 4 * (2 * (head_N - power) + 1))
    return torch.exp2(-exponent_N / power)


class NoRotary(nn.Module):
    """Replaces the rotary embedding by the identity: cosine 1, sine 0."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

    def forward(self, hidden_BQE: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*position_ids.shape, self.head_dim)
        return hidden_BQE.new_ones(shape), hidden_BQE.new_zeros(shape)


class AlibiModel(LlamaModel):
    """Llama's layers with ALiBi. Padding may be anywhere, since distances count real positions only."""

    config_class = BaichuanConfig

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__(config)
        rotary: Any = NoRotary(config.head_dim or config.hidden_size // config.num_attention_heads)
        self.rotary_emb = rotary

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        if inputs_embeds is None:
            inputs_embeds, input_ids = self.embed_tokens(input_ids), None
        new = inputs_embeds.shape[1]
        if attention_mask is None:
            past = past_key_values.get_seq_length() if past_key_values is not None else 0
            attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[0], past + new, dtype=torch.long)
        bias = alibi_bias(attention_mask, new=new, heads=self.config.num_attention_heads, dtype=inputs_embeds.dtype)
        return super().forward(
            input_ids=input_ids,
            attention_mask=bias,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )


def alibi_bias(mask_BK: torch.Tensor, *, new: int, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """The bias [B, N, Q, K] of the attention scores: slope times distance, and the dtype's minimum at masked positions.

    Every position attends to itself, also in padding, since a row that is masked entirely gives NaN.
    """
    position_BK = mask_BK.long().cumsum(dim=1)
    distance_BQK = position_BK[:, None, :] - position_BK[:, -new:, None]
    column_K = torch.arange(mask_BK.shape[1], device=mask_BK.device)
    back_QK = column_K[None, :] - column_K[-new:, None]
    visible_BQK = ((back_QK < 0) & mask_BK[:, None, :].bool()) | (back_QK == 0)
    bias_BNQK = slopes(heads, mask_BK.device)[:, None, None] * distance_BQK[:, None]
    return bias_BNQK.to(dtype).masked_fill(~visible_BQK[:, None], torch.finfo(dtype).min)


class NormHead(nn.Linear):
    """An output layer that normalises its rows. The weight stays as stored, so that it can be trained and saved."""

    def forward(self, hidden_BQE: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        length_V = torch.linalg.vector_norm(self.weight, dim=1, dtype=dtype).clamp(min=1e-12)
        return super().forward(hidden_BQE) * length_V.reciprocal().to(hidden_BQE.dtype)


class BaichuanForCausalLM(LlamaForCausalLM):
    config_class = BaichuanConfig

    def __init__(self, config: BaichuanConfig) -> None:
        super().__init__(config)
        if config.alibi:
            self.model = AlibiModel(config)
        if config.norm_head:
            self.lm_head = NormHead(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


FAMILY = Family(
    config=BaichuanConfig,
    model=BaichuanForCausalLM,
    tensors=(fused_qkv(".self_attn.W_pack.", SplitQKV()),),
)
