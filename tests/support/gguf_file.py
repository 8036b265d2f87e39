"""A GGUF file from a model and tokenizer of transformers, as llama.cpp's converter writes it: a second opinion on
transformers' reader. Weights are stored in fp32, so that logits must be equal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedModel

PREFIX = {"gemma3_text": "gemma3"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
PLUS_ONE = {"gemma2", "gemma3"}  # families whose norms llama.cpp stores as 1 + weight


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of query or key as llama.cpp has them for LLaMA: the two rotary halves of a head alternate."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    tokenizer: Path,
    *,
    pre: str,
    arch: str | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> None:
    """`tokenizer` is a folder with tokenizer.json and tokenizer_config.json, `extra` has further tensors."""
    config, state = model.config, model.state_dict()
    arch, stated = PREFIX.get(config.model_type, config.model_type), arch
    writer = gguf.GGUFWriter(file, stated or arch)
    _write_shape(writer, config)
    _write_tokenizer(writer, tokenizer, rows=config.vocab_size, pre=pre)
    enum = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(enum, config.num_hidden_layers)
    for name, weight in state.items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        base, kind = name.rsplit(".", 1)
        if arch == "llama" and base.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if base.endswith("q_proj") else config.num_key_value_heads
            weight = interleaved(weight, heads)
        if arch in PLUS_ONE and "norm" in base:
            weight = weight + 1
        stored = names.get_name(base)
        assert stored is not None, name
        writer.add_tensor(f"{stored}.{kind}", weight.float().contiguous().numpy())
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(width)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_vocab_size(config.vocab_size)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _write_tokenizer(writer: Any, folder: Path, *, rows: int, pre: str) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    vocabulary = dict(content["model"]["vocab"])
    added = {token["content"]: token for token in content["added_tokens"]}
    ids = {**vocabulary, **{name: token["id"] for name, token in added.items()}}
    tokens = [f"[PAD{i}]" for i in range(rows)]
    kinds = [USER_DEFINED] * rows
    for token, i in ids.items():
        if i < rows:
            tokens[i], kinds[i] = token, NORMAL
    for token in added.values():
        if token["id"] < rows:
            kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    bytes_as_pieces = content["model"].get("byte_fallback")
    writer.add_tokenizer_model("llama" if bytes_as_pieces else "gpt2")
    writer.add_tokenizer_pre(pre)
    if bytes_as_pieces:
        kinds = [
            BYTE if token.startswith("<0x") and token.endswith(">") else kind
            for token, kind in zip(tokens, kinds, strict=True)
        ]
        ranks = {}
        for rank, merge in enumerate(content["model"]["merges"]):
            ranks.setdefault("".join(merge if isinstance(merge, list) else merge.split(" ")), -float(rank))
        writer.add_token_scores([ranks.get(token, -1e6) for token in tokens])
    else:
        merges = content["model"]["merges"]
        writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for kind in ("bos", "eos", "unk", "pad"):
        token = names.get(f"{kind}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token in ids:
            getattr(writer, f"add_{kind}_token_id")(ids[token])
    if isinstance(names.get("chat_template"), str):
        writer.add_chat_template(names["chat_template"])
