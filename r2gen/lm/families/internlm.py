"""InternLM-7B (v1) as transformers' Llama: the tensors have Llama's names.

Source: configuration_internlm.py and modeling_internlm.py of internlm/internlm-chat-7b. `rotary.type: dynamic` changes
nothing up to max_position_embeddings, and no report is decoded beyond.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.config.plain import Plain
from r2gen.lm.conversion.config_fields import UnsupportedFormat, renamed
from r2gen.lm.family import Family


def native(published: Mapping[str, Any]) -> Plain:
    """LlamaConfig's fields; the published `bias` is that of the query, key, value and output projections."""
    fields = renamed(published, {"bias": "attention_bias"})
    rotary = fields.pop("rotary", None)
    if rotary is not None:
        if rotary.get("type", "dynamic") not in ("origin", "dynamic"):
            raise UnsupportedFormat(f"rotary.type is {rotary['type']}: only origin and dynamic can be read")
        fields["rope_parameters"] = {"rope_type": "default", "rope_theta": float(rotary.get("base", 10000))}
    return fields


class InternLMConfig(LlamaConfig):
    model_type = "internlm"
    attention_bias: bool = True

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class InternLMForCausalLM(LlamaForCausalLM):
    config_class = InternLMConfig


FAMILY = Family(config=InternLMConfig, model=InternLMForCausalLM)
