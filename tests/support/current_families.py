"""Tiny checkpoints of current families in their published layouts, drawn from the names of their tensors.

    python tests/support/current_families.py

writes tests/golden/current_families.json: logits and greedy tokens of transformers' own class, that of the whole for a
multimodal checkpoint. They are the same for any version that draws them, so that the golden file needs no weights.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "golden" / "current_families.json"
IDS = list(range(3, 23))
SHOWN = 40  # logits of the last position
BASE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
YARN = {"rope_type": "yarn", "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "smollm2": BASE | {"model_type": "llama", "rope_theta": 130000.0, "tie_word_embeddings": True},
    "smollm3": BASE
    | {"model_type": "smollm3", "no_rope_layers": [1, 0], "rope_theta": 5e6, "tie_word_embeddings": True},
    "olmo2": BASE | {"model_type": "olmo2", "rope_theta": 5e5},
    "olmo3": BASE | MIXED | {"model_type": "olmo3", "rope_theta": 5e5},
    "gemma4": {
        "model_type": "gemma4",
        "tie_word_embeddings": True,
        "audio_config": None,
        "vision_config": VISION
        | {"head_dim": 8, "patch_size": 4, "pooling_kernel_size": 2, "model_type": "gemma4_vision"},
        "text_config": BASE
        | MIXED
        | {
            "model_type": "gemma4_text",
            "head_dim": 8,
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 300,
            "num_kv_shared_layers": 0,
            "final_logit_softcapping": 30.0,
            "tie_word_embeddings": True,
        },
    },
    "medgemma": {
        "model_type": "gemma3",
        "mm_tokens_per_image": 4,
        "vision_config": VISION | {"image_size": 28, "patch_size": 14, "model_type": "siglip_vision_model"},
        "text_config": {name: value for name, value in (BASE | MIXED).items() if name != "tie_word_embeddings"}
        | {"model_type": "gemma3_text", "head_dim": 8, "query_pre_attn_scalar": 8},
    },
    "granite": BASE
    | {
        "model_type": "granite",
        "embedding_multiplier": 12.0,
        "logits_scaling": 8.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.125,
    },
    "qwen3_5": {
        "model_type": "qwen3_5",
        "tie_word_embeddings": False,
        "vision_config": VISION
        | {"depth": 1, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32, "model_type": "qwen3_5"},
        "text_config": BASE
        | {
            "model_type": "qwen3_5_text",
            "layer_types": ["linear_attention", "full_attention"],
            "head_dim": 16,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": ROPE
            | {"partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        },
    },
    "ministral3": {
        "model_type": "mistral3",
        "spatial_merge_size": 2,
        "vision_config": VISION | {"head_dim": 8, "image_size": 28, "patch_size": 14, "model_type": "pixtral"},
        "text_config": BASE
        | {
            "model_type": "ministral3",
            "head_dim": 8,
            "rope_parameters": YARN
            | {
                "rope_theta": 1e6,
                "original_max_position_embeddings": 32,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    },
    "glm4_0414": BASE | {"model_type": "glm4", "head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": False},
    "phi4": BASE | {"model_type": "phi3", "sliding_window": None, "rope_theta": 250000.0},
    "qwen3_moe": BASE
    | {
        "model_type": "qwen3_moe",
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
        "rope_theta": 1e7,
    },
    "gpt_oss": BASE
    | MIXED
    | {
        "model_type": "gpt_oss",
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_theta": 150000.0,
        "rope_scaling": YARN | {"original_max_position_embeddings": 64, "truncate": False},
    },
}


def write(folder: Path, name: str) -> Any:
    """Write the checkpoint without a tokenizer. Returns transformers' class for all of it."""
    content = CONFIGS[name]
    auto: Any = AutoModelForImageTextToText if "vision_config" in content else AutoModelForCausalLM
    fields = json.loads(json.dumps(content))  # transformers changes nested dictionaries
    auto.from_config(AutoConfig.for_model(**fields)).save_pretrained(folder)
    file = folder / "model.safetensors"
    drawn = {key: draw(key, tensor) for key, tensor in load_file(file).items()}
    save_file(drawn, file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(content))
    return auto


def draw(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor like this one that only its name decides, large enough that logits differ."""
    source = torch.Generator().manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    noise = torch.randn(tensor.shape, generator=source)
    if tensor.dim() > 1:
        return 0.25 * noise
    first = tensor.flatten()[0] if tensor.numel() else 0
    return (first if bool((tensor == first).all()) else 0) + 0.2 * noise  # a norm or a bias begins as ones or zeros


def main() -> None:
    golden = {}
    for name in CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            auto = write(Path(folder), name)
            model = auto.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        ids_BT = torch.tensor([IDS])
        with torch.no_grad():
            logits_V = model(input_ids=ids_BT).logits[0, -1]
        options = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12, "pad_token_id": 0, "eos_token_id": 2}
        generated = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), **options)[0, len(IDS) :]
        golden[name] = {
            "logits": [round(value, 5) for value in logits_V[:SHOWN].tolist()],
            "generated": generated.tolist(),
        }
        print(name, golden[name]["generated"], file=sys.stderr)
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in golden.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
