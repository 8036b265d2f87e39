"""ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B in their published format, as transformers' Glm.

Source: configuration_chatglm.py, modeling_chatglm.py and tokenization_chatglm.py of the checkpoints' repositories.
GLM-4-9B-hf has another format (model_type glm), which transformers reads by itself.
"""

from collections.abc import Mapping
from typing import Any

from transformers import GlmConfig, GlmForCausalLM

from r2gen.config.plain import Plain
from r2gen.lm.conversion.config_fields import UnsupportedFormat, pop_fixed, renamed
from r2gen.lm.conversion.fused_qkv import SplitQKV
from r2gen.lm.conversion.tensor_names import fused_qkv, rename
from r2gen.lm.family import GPT4_SPLIT, Family, TokenizerFormat

FIELDS = {
    "num_layers": "num_hidden_layers",
    "padded_vocab_size": "vocab_size",
    "ffn_hidden_size": "intermediate_size",
    "kv_channels": "head_dim",
    "multi_query_group_num": "num_key_value_heads",
    "layernorm_epsilon": "rms_norm_eps",
    "add_qkv_bias": "attention_bias",
    "seq_length": "max_position_embeddings",
}
FIXED: Plain = {
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
    "original_rope": True,
    "multi_query_attention": True,
    "apply_residual_connection_post_layernorm": False,
    "fp32_residual_connection": False,
    "pre_seq_len": None,
    "prefix_projection": False,
    "quantization_bit": 0,
}


def native(published: Mapping[str, Any]) -> Plain:
    """GlmConfig's fields. Raises UnsupportedFormat for ChatGLM-6B (v1) and for options that Glm does not have."""
    if "position_encoding_2d" in published or "inner_hidden_size" in published:
        raise UnsupportedFormat(
            "this is ChatGLM-6B (v1), another architecture under the same model_type, which is not "
            "supported: use chatglm2-6b, chatglm3-6b or glm-4-9b-chat"
        )
    if "num_layers" not in published:
        return dict(published)  # written by save_pretrained
    fields = {"add_qkv_bias": False, "pad_token_id": None} | dict(published)  # Glm has other defaults
    pop_fixed(fields, FIXED)
    ratio = fields.pop("rope_ratio", None) or 1
    rope = {"rope_type": "default", "rope_theta": 10000.0 * ratio, "partial_rotary_factor": 0.5}
    return renamed(fields, FIELDS) | {"rope_parameters": rope}


class ChatGLMConfig(GlmConfig):
    model_type = "chatglm"

    @classmethod
    def from_dict(cls, config_dict: Plain, **kwargs: Any) -> Any:
        return super().from_dict(native(config_dict), **kwargs)


class ChatGLMForCausalLM(GlmForCausalLM):
    config_class = ChatGLMConfig


CHATGLM_TOKENIZER = TokenizerFormat(
    name="ChatGLMTokenizer",
    following=(
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "sop",
        "eop",
        # the rest only in ChatGLM3, whose embedding matrix has rows for them
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    eos=("</s>",),
    pad=("<unk>",),
)
GLM4_TOKENIZER = TokenizerFormat(
    name="ChatGLM4Tokenizer",
    split=GPT4_SPLIT,
    following=(  # tokenizer_config.json of THUDM/glm-4-9b-chat; for a copy without that file
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ),
    eos=("<|endoftext|>", "<|user|>", "<|observation|>"),
    pad=("<|endoftext|>",),
)
FAMILY = Family(
    config=ChatGLMConfig,
    model=ChatGLMForCausalLM,
    tensors=(
        rename("^transformer.embedding.word_embeddings.", "^model.embed_tokens."),
        rename("^transformer.encoder.layers.", "^model.layers."),
        rename("^transformer.encoder.final_layernorm.", "^model.norm."),
        rename("^transformer.output_layer.", "^lm_head."),
        rename(".self_attention.dense.", ".self_attn.o_proj."),
        rename(".mlp.dense_h_to_4h.", ".mlp.gate_up_proj."),
        rename(".mlp.dense_4h_to_h.", ".mlp.down_proj."),
        fused_qkv(".self_attention.query_key_value.", SplitQKV()),
    ),
    tokenizers=(CHATGLM_TOKENIZER, GLM4_TOKENIZER),
)
