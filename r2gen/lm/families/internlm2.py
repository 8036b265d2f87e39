"""InternLM2 and InternLM2.5 as transformers' Llama.

Source: configuration_internlm2.py and modeling_internlm2.py of internlm/internlm2-chat-7b.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.config.plain import Plain
from r2gen.lm.conversion.config_fields import pop_fixed
from r2gen.lm.conversion.fused_qkv import SplitGroupedQKV
from r2gen.lm.conversion.tensor_names import fused_qkv, rename
from r2gen.lm.family import Family


def native(published: Mapping[str, Any]) -> Plain:
    """LlamaConfig's fields, without the published `attn_implementation`, since lm.attention chooses it."""
    fields = {name: value for name, value in published.items() if name != "attn_implementation"}
    pop_fixed(fields, {"bias": False})
    return fields


class InternLM2Config(LlamaConfig):
    model_type = "internlm2"

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class InternLM2ForCausalLM(LlamaForCausalLM):
    config_class = InternLM2Config


FAMILY = Family(
    config=InternLM2Config,
    model=InternLM2ForCausalLM,
    tensors=(
        rename("^model.tok_embeddings.", "^model.embed_tokens."),
        rename("^output.", "^lm_head."),
        rename(".attention.wo.", ".self_attn.o_proj."),
        rename(".feed_forward.w1.", ".mlp.gate_proj."),
        rename(".feed_forward.w3.", ".mlp.up_proj."),
        rename(".feed_forward.w2.", ".mlp.down_proj."),
        rename(".attention_norm.", ".input_layernorm."),
        rename(".ffn_norm.", ".post_attention_layernorm."),
        fused_qkv(".attention.wqkv.", SplitGroupedQKV()),
    ),
)
