"""InternLM3 as transformers' Llama: the tensors have Llama's names.

transformers has a class for it since a version between 5.17 and 5.23.
Source: configuration_internlm3.py of internlm/internlm3-8b-instruct.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.config.plain import Plain
from r2gen.lm.conversion.config_fields import UnsupportedFormat, renamed
from r2gen.lm.family import Family


def native(published: Mapping[str, Any]) -> Plain:
    """LlamaConfig's fields. Raises UnsupportedFormat if `qkv_bias` and `bias` differ: Llama has one switch for both."""
    fields = renamed(published, {"qkv_bias": "attention_bias", "bias": "mlp_bias"})
    if fields.get("attention_bias", False) != fields.get("mlp_bias", False):
        raise UnsupportedFormat("qkv_bias and bias differ, and the native class has one switch for both")
    return fields


class InternLM3Config(LlamaConfig):
    model_type = "internlm3"

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class InternLM3ForCausalLM(LlamaForCausalLM):
    config_class = InternLM3Config


FAMILY = Family(config=InternLM3Config, model=InternLM3ForCausalLM)
