"""Shapes of published 7B checkpoints, in the words of their own config.json, and tiny ones that keep the layout."""

from typing import Any

# Sources: config.json of Llama-2-7b-chat-hf, chatglm3-6b, internlm2-chat-7b, Baichuan2-7B-Chat, Qwen-7B-Chat and
# flan-t5-xl; what does not bear on shape or layout is left out. Token ids are the benchmark's own tokenizer's.
SHAPES: dict[str, dict[str, Any]] = {
    "llama2": {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
        "bos_token_id": 1,
    },
    "chatglm3": {
        "model_type": "chatglm", "architectures": ["ChatGLMModel"], "num_layers": 28, "hidden_size": 4096,
        "ffn_hidden_size": 13696, "num_attention_heads": 32, "kv_channels": 128, "multi_query_attention": True,
        "multi_query_group_num": 2, "padded_vocab_size": 65024, "seq_length": 8192, "layernorm_epsilon": 1e-5,
        "add_qkv_bias": True, "add_bias_linear": False, "rmsnorm": True, "original_rope": True,
        "post_layer_norm": True, "apply_residual_connection_post_layernorm": False, "tie_word_embeddings": False,
        "attention_dropout": 0.0, "hidden_dropout": 0.0,
    },
    "internlm2": {
        "model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "attn_implementation": "eager",
        "bias": False, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 92544, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000, "rope_scaling": None, "hidden_act": "silu",
        "tie_word_embeddings": False, "bos_token_id": 1,
    },
    "baichuan2": {
        "model_type": "baichuan", "architectures": ["BaichuanForCausalLM"], "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 125696,
        "max_position_embeddings": 4096, "model_max_length": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "tie_word_embeddings": False, "z_loss_weight": 0, "bos_token_id": 1,
    },
    "qwen": {
        "model_type": "qwen", "architectures": ["QWenLMHeadModel"], "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "kv_channels": 128, "vocab_size": 151936,
        "seq_length": 8192, "max_position_embeddings": 32768, "layer_norm_epsilon": 1e-6, "rotary_emb_base": 10000,
        "rotary_pct": 1.0, "no_bias": True, "scale_attn_weights": True, "tie_word_embeddings": False,
        "attn_dropout_prob": 0.0, "emb_dropout_prob": 0.0, "use_dynamic_ntk": True, "use_logn_attn": True,
    },
    "t5": {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True,
        "d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32,
        "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.1, "layer_norm_epsilon": 1e-6,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
    },
}  # fmt: skip
_LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
          "vocab_size": 320}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "llama2": _LLAMA | {"num_key_value_heads": 4},
    "chatglm3": {"num_layers": 2, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4,
                 "kv_channels": 16, "padded_vocab_size": 320},
    "internlm2": _LLAMA | {"num_key_value_heads": 2},
    "baichuan2": _LLAMA,
    "qwen": _LLAMA | {"intermediate_size": 256, "kv_channels": 16},
    "t5": {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
           "vocab_size": 320},
}  # fmt: skip
