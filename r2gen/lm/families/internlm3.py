"""InternLM3 as transformers' Llama: the tensors have Llama's names.

Source: configuration_internlm3.py of internlm/internlm3-8b-instruct. Newer transformers (5.23) know it, 5.17 does not.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.lm.families.fields import UnsupportedFormat, renamed
from r2gen.lm.families.registration import register_family


def native(published: Mapping[str, Any]) -> dict[str, Any]:
    """LlamaConfig's fields. Llama has one switch for q, k, v and o, so `qkv_bias` and `bias` must agree."""
    fields = renamed(published, {"qkv_bias": "attention_bias", "bias": "mlp_bias"})
    if fields.get("attention_bias", False) != fields.get("mlp_bias", False):
        raise UnsupportedFormat("qkv_bias and bias differ, and the native class has one switch for both")
    return fields


class InternLM3Config(LlamaConfig):
    model_type = "internlm3"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class InternLM3ForCausalLM(LlamaForCausalLM):
    config_class = InternLM3Config


register_family(InternLM3Config, InternLM3ForCausalLM, [])
