"""Qwen (v1) as transformers' Qwen2.

Source: configuration_qwen.py, modeling_qwen.py and tokenization_qwen.py of Qwen/Qwen-7B-Chat. Beyond seq_length the
original scales rotary bases (use_dynamic_ntk) and queries (use_logn_attn), so that this model ends at seq_length.
"""

from collections.abc import Mapping
from typing import Any

from transformers import Qwen2Config, Qwen2ForCausalLM

from r2gen.config.plain import Plain
from r2gen.lm.conversion.config_fields import pop_fixed, renamed
from r2gen.lm.conversion.fused_qkv import SplitQKV
from r2gen.lm.conversion.tensor_names import fused_qkv, rename
from r2gen.lm.family import GPT4_SPLIT, Family, TokenizerFormat

FIELDS = {  # n_layer, n_embd and n_head are in the oldest configs
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "ffn_hidden_size": "intermediate_size",
    "attn_pdrop": "attention_dropout",
    "kv_channels": "head_dim",
    "layer_norm_epsilon": "rms_norm_eps",
    "attn_dropout_prob": "attention_dropout",
}
FIXED = {
    "no_bias": True,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "emb_dropout_prob": 0.0,
    "apply_residual_connection_post_layernorm": False,
}
PUBLISHED_ONLY = ("kv_channels", "seq_length", "no_bias", "layer_norm_epsilon")  # save_pretrained writes none of them


def native(published: Mapping[str, Any]) -> Plain:
    """Qwen2Config's fields. Raises UnsupportedFormat for options that Qwen2 does not have."""
    if not any(name in published for name in PUBLISHED_ONLY):
        return dict(published)  # written by save_pretrained
    fields = dict(published)
    pop_fixed(fields, FIXED)
    fields = renamed(fields, FIELDS)
    fields["intermediate_size"] //= 2  # the published size counts gate and up projection together
    fields["num_key_value_heads"] = fields["num_attention_heads"]
    base = float(fields.pop("rotary_emb_base", 10000))
    fields["rope_parameters"] = {"rope_type": "default", "rope_theta": base}
    scales = [fields.pop(name, True) for name in ("use_dynamic_ntk", "use_logn_attn")]
    trained = fields.pop("seq_length", 8192)
    if any(scales) or "max_position_embeddings" not in fields:
        fields["max_position_embeddings"] = trained
    return fields


class QWenConfig(Qwen2Config):
    model_type = "qwen"

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class QWenForCausalLM(Qwen2ForCausalLM):
    config_class = QWenConfig


TOKENIZER = TokenizerFormat(
    name="QWenTokenizer",
    file="qwen.tiktoken",
    split=GPT4_SPLIT.replace("{1,3}", ""),  # each digit is a token of its own
    nfc=True,
    following=("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
    eos=("<|endoftext|>",),
    pad=("<|endoftext|>",),
)
FAMILY = Family(
    config=QWenConfig,
    model=QWenForCausalLM,
    tensors=(
        rename("^transformer.wte.", "^model.embed_tokens."),
        rename("^transformer.h.", "^model.layers."),
        rename("^transformer.ln_f.", "^model.norm."),
        rename(".ln_1.", ".input_layernorm."),
        rename(".ln_2.", ".post_attention_layernorm."),
        rename(".attn.c_proj.", ".self_attn.o_proj."),
        rename(".mlp.w1.", ".mlp.up_proj."),  # and w2 is the gate
        rename(".mlp.w2.", ".mlp.gate_proj."),
        rename(".mlp.c_proj.", ".mlp.down_proj."),
        fused_qkv(".attn.c_attn.", SplitQKV()),
    ),
    tokenizers=(TOKENIZER,),
)
