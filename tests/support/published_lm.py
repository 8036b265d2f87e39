"""Random checkpoints in the published layouts, of any shape; published_logits.py computes their logits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.lm.checkpoint import find_checkpoint, weight_files
from r2gen.lm.weights import read_config, read_model

Tensors = dict[str, torch.Tensor]
# T tokens, E width, D head width, N query heads, K key and value heads, V vocabulary


@dataclass(frozen=True, kw_only=True)
class Shape:
    layers: int = 2
    heads: int = 4
    groups: int = 4  # key and value heads
    head_dim: int = 8
    width: int = 32
    inner: int = 40  # of the feed-forward part
    rows: int = 50  # of the vocabulary
    bias: bool = False  # of query, key and value, and where the family has it, of output
    base: float = 10000.0  # of the rotary embedding
    alibi: bool = False
    norm_head: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Format:
    config: Callable[[Shape], dict[str, Any]]
    names: dict[str, str]  # what a tensor is to its published name; {} stands for the layer
    fused: str | None = None  # "rows" [q | k | v], or "groups" [K, (queries, key, value), D]
    gate_up: bool = False  # gate and up are one tensor
    output_bias: bool = False  # where Shape.bias says so


COMMON = {
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA_NAMES = {
    "embed": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "norm1": "model.layers.{}.input_layernorm",
    "norm2": "model.layers.{}.post_attention_layernorm",
    "q": "model.layers.{}.self_attn.q_proj",
    "k": "model.layers.{}.self_attn.k_proj",
    "v": "model.layers.{}.self_attn.v_proj",
    "o": "model.layers.{}.self_attn.o_proj",
    "gate": "model.layers.{}.mlp.gate_proj",
    "up": "model.layers.{}.mlp.up_proj",
    "down": "model.layers.{}.mlp.down_proj",
}


def llama_like(shape: Shape) -> dict[str, Any]:
    return COMMON | {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "vocab_size": shape.rows,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 64,
    }


def baichuan(shape: Shape) -> dict[str, Any]:
    config = llama_like(shape) | {"model_type": "baichuan", "model_max_length": 64}
    if shape.alibi:
        del config["max_position_embeddings"]
    return config | ({"z_loss_weight": 0} if shape.norm_head else {})


def chatglm(shape: Shape) -> dict[str, Any]:
    return COMMON | {
        "model_type": "chatglm",
        "num_layers": shape.layers,
        "padded_vocab_size": shape.rows,
        "hidden_size": shape.width,
        "ffn_hidden_size": shape.inner,
        "kv_channels": shape.head_dim,
        "num_attention_heads": shape.heads,
        "multi_query_attention": True,
        "multi_query_group_num": shape.groups,
        "layernorm_epsilon": 1e-6,
        "rmsnorm": True,
        "add_bias_linear": False,
        "add_qkv_bias": shape.bias,
        "post_layer_norm": True,
        "seq_length": 64,
        "original_rope": True,
        "rope_ratio": shape.base / 10000,
    }


def qwen(shape: Shape) -> dict[str, Any]:
    config = llama_like(shape) | {
        "model_type": "qwen",
        "intermediate_size": 2 * shape.inner,
        "kv_channels": shape.head_dim,
        "no_bias": True,
        "layer_norm_epsilon": 1e-6,
        "rotary_emb_base": shape.base,
        "rotary_pct": 1.0,
        "seq_length": 64,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "scale_attn_weights": True,
    }
    return {name: value for name, value in config.items() if name != "rms_norm_eps"}


FORMATS = {
    "baichuan": Format(baichuan, LLAMA_NAMES | {"qkv": "model.layers.{}.self_attn.W_pack"}, fused="rows"),
    "chatglm": Format(
        chatglm,
        {
            "embed": "transformer.embedding.word_embeddings",
            "norm": "transformer.encoder.final_layernorm",
            "head": "transformer.output_layer",
            "norm1": "transformer.encoder.layers.{}.input_layernorm",
            "norm2": "transformer.encoder.layers.{}.post_attention_layernorm",
            "qkv": "transformer.encoder.layers.{}.self_attention.query_key_value",
            "o": "transformer.encoder.layers.{}.self_attention.dense",
            "gate_up": "transformer.encoder.layers.{}.mlp.dense_h_to_4h",
            "down": "transformer.encoder.layers.{}.mlp.dense_4h_to_h",
        },
        fused="rows",
        gate_up=True,
    ),
    "internlm": Format(
        lambda shape: (
            llama_like(shape)
            | {
                "model_type": "internlm",
                "bias": shape.bias,
                "rotary": {"base": shape.base, "type": "dynamic"},
            }
        ),
        LLAMA_NAMES,
        output_bias=True,
    ),
    "internlm2": Format(
        lambda shape: (
            llama_like(shape)
            | {
                "model_type": "internlm2",
                "num_key_value_heads": shape.groups,
                "rope_theta": shape.base,
                "bias": False,
                "attn_implementation": "eager",
            }
        ),
        {
            "embed": "model.tok_embeddings",
            "norm": "model.norm",
            "head": "output",
            "norm1": "model.layers.{}.attention_norm",
            "norm2": "model.layers.{}.ffn_norm",
            "qkv": "model.layers.{}.attention.wqkv",
            "o": "model.layers.{}.attention.wo",
            "gate": "model.layers.{}.feed_forward.w1",
            "up": "model.layers.{}.feed_forward.w3",
            "down": "model.layers.{}.feed_forward.w2",
        },
        fused="groups",
    ),
    "internlm3": Format(
        lambda shape: (
            llama_like(shape)
            | {
                "model_type": "internlm3",
                "num_key_value_heads": shape.groups,
                "rope_theta": shape.base,
                "bias": False,
                "qkv_bias": False,
                "head_dim": shape.head_dim,
            }
        ),
        LLAMA_NAMES,
    ),
    "qwen": Format(
        qwen,
        {
            "embed": "transformer.wte",
            "norm": "transformer.ln_f",
            "head": "lm_head",
            "norm1": "transformer.h.{}.ln_1",
            "norm2": "transformer.h.{}.ln_2",
            "qkv": "transformer.h.{}.attn.c_attn",
            "o": "transformer.h.{}.attn.c_proj",
            "up": "transformer.h.{}.mlp.w1",
            "gate": "transformer.h.{}.mlp.w2",
            "down": "transformer.h.{}.mlp.c_proj",
        },
        fused="rows",
    ),
}


def draw(family: str, shape: Shape) -> Tensors:
    """Every tensor of the family's published files, large enough that logits differ."""
    kind, source = FORMATS[family], torch.Generator().manual_seed(shape.seed)
    query, key = shape.heads * shape.head_dim, shape.groups * shape.head_dim
    sizes = {
        "q": (query, shape.width),
        "k": (key, shape.width),
        "v": (key, shape.width),
        "qkv": (query + 2 * key, shape.width),
        "o": (shape.width, query),
        "gate": (shape.inner, shape.width),
        "up": (shape.inner, shape.width),
        "gate_up": (2 * shape.inner, shape.width),
        "down": (shape.width, shape.inner),
        "norm1": (shape.width,),
        "norm2": (shape.width,),
        "norm": (shape.width,),
        "embed": (shape.rows, shape.width),
        "head": (shape.rows, shape.width),
    }
    fused = {"q", "k", "v"} if kind.fused else set()
    biased = ({"q", "k", "v", "qkv"} | ({"o"} if kind.output_bias else set())) if shape.bias else set()
    tensors = {}
    for part, name in kind.names.items():
        for layer in range(shape.layers if "{}" in name else 1):
            if part not in fused:
                weight = torch.randn(sizes[part], generator=source)
                tensors[name.format(layer) + ".weight"] = 1 + 0.2 * weight if "norm" in part else 0.25 * weight
            if part in biased - fused:
                tensors[name.format(layer) + ".bias"] = 0.5 * torch.randn(sizes[part][0], generator=source)
    return tensors


def write(folder: Path, family: str, shape: Shape, *, shards: int = 1, pickled: bool = False) -> Tensors:
    """A checkpoint folder without tokenizer files; what it holds is given back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(FORMATS[family].config(shape)))
    tensors = draw(family, shape)
    save_weights(folder, tensors, shards=shards, pickled=pickled)
    return tensors


def save_weights(folder: Path, tensors: Tensors, *, shards: int = 1, pickled: bool = False) -> None:
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    files = [
        f"{stem}-{i + 1:05d}-of-{shards:05d}.{suffix}" if shards > 1 else f"{stem}.{suffix}" for i in range(shards)
    ]
    placed = {name: files[i % shards] for i, name in enumerate(tensors)}
    for file in files:
        part = {name: tensors[name] for name in tensors if placed[name] == file}
        if pickled:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def read(
    folder: Path, *, quantization: QuantizationConfigMixin | None = None, attention: str = "auto"
) -> PreTrainedModel:
    """The model of a folder that has no tokenizer."""
    checkpoint = find_checkpoint(folder, None)
    config = read_config(checkpoint)
    weight_files(folder)
    return read_model(
        checkpoint, config, dtype="float32", attention=attention, quantization=quantization, device_map=None
    )


def claim(folder: Path, **fields: object) -> None:
    """Other fields in config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
