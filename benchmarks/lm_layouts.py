"""Draw a small random checkpoint of every type of language model that transformers has, and run task=check on it.

    PYTHONPATH=. python benchmarks/lm_layouts.py [TYPE ...] [--write]

Prints one line per type: the checks that passed, or the sentence with which it is refused. `--write` replaces the
tables in docs/language-models.md. All types take about half an hour on one core; each is tried in a forked process.
"""

import dataclasses
import inspect
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
)
from transformers.models.auto import modeling_auto

from r2gen.config.compose import compose
from r2gen.data.phantom import Phantom
from r2gen.errors import UserError
from r2gen.lm import ReportTokenizer, save_tokenizer, train_tokenizer
from r2gen.runs.stored import checked
from r2gen.tasks.check.preflight import Preflight
from r2gen.tasks.check.results import PASS, run_checks

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "docs" / "language-models.md"
LIMIT_S = 240
DATA = ["data.train_studies=40", "data.val_studies=4", "data.test_studies=4", "data.size_px=64"]
RUN = ["task=check", "generation.max_new_tokens=12", "evaluate.nearest_studies=0", "trainer.device=cpu"]

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "causal": (AutoModelForCausalLM, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "seq2seq": (AutoModelForSeq2SeqLM, modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "image and text": (AutoModelForImageTextToText, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
}
# The sizes of a small model, under every name that a configuration has for them.
SIZES: dict[Any, tuple[str, ...]] = {
    64: (
        "hidden_size",
        "d_model",
        "n_embd",
        "embed_dim",
        "embedding_size",
        "hidden_dim",
        "out_hidden_size",
        "lru_width",
    ),
    96: (
        *("intermediate_size", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim", "dense_ffn_size"),
        *("ffn_hidden_size", "intermediate_size_mlp", "dense_intermediate_size"),
    ),
    32: (
        *("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size", "image_size"),
        *("shared_intermediate_size", "moe_shared_expert_intermediate_size", "expert_ffn_size"),
    ),
    16: (
        *("head_dim", "d_kv", "q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"),
        *("linear_key_head_dim", "linear_value_head_dim", "mamba_d_head", "mamba_d_state", "kv_channels", "state_size"),
        *("ssm_state_size", "mamba_head_dim", "global_head_dim", "index_head_dim", "time_step_rank", "mamba_dt_rank"),
        *("patch_size", "vocab_size_per_layer_input_"),
    ),
    4: (
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "index_n_heads"),
        *("decoder_attention_heads", "num_experts", "num_local_experts", "n_routed_experts", "linear_num_value_heads"),
        *("mamba_n_heads", "mamba_num_heads", "moe_num_experts", "attention_heads"),
    ),
    2: (
        *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depth"),
        *("num_encoder_layers", "num_decoder_layers", "num_key_value_heads", "num_kv_heads", "num_experts_per_tok"),
        *("num_query_groups", "linear_num_key_heads", "moe_k", "top_k_experts"),
    ),
    1: ("n_group", "topk_group", "mamba_n_groups", "n_groups", "num_nextn_predict_layers", "n_shared_experts"),
    512: ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"),
}
# What else a type needs, by its model_type.
LATENT = {"num_key_value_heads": 4}  # DeepSeek's attention has as many keys as queries
MAMBA = {"mamba_n_heads": 8, "mamba_d_ssm": 128}
PER_LAYER = {"vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0}
FURTHER: dict[str, dict[str, Any]] = {
    "axk1": LATENT,
    "axk2": LATENT,
    "bailing_hybrid": LATENT | {"layer_group_size": 2, "linear_head_dim": 16, "linear_num_heads": 4},
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 16},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 64},
    },
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "deepseek_v32": LATENT,
    "dots3_note_text": LATENT,
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_ssm": 64},
    "gemma3n_text": PER_LAYER,
    "gemma4_text": PER_LAYER,
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 16},
    "granitemoehybrid": MAMBA | {"layer_types": ["mamba", "attention"]},
    "longcat_flash": LATENT,
    "gemma3n": {"audio_config": None},
    "mamba2": {"expand": 2, "num_heads": 8, "head_dim": 16},
    "minicpm3": LATENT,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": LATENT,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gemma4": {"audio_config": None},
    "youtu": LATENT,
}


def fields_of(kind: type[PreTrainedConfig]) -> set[str]:
    """The names of the values of a configuration."""
    parameters = set(inspect.signature(kind.__init__).parameters)
    return parameters | (
        {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    )


def small(kind: type[PreTrainedConfig], tokenizer: ReportTokenizer, *, text: bool = True) -> dict[str, Any]:
    """The values of a small configuration of a class, and of its parts."""
    fields = fields_of(kind)
    values: dict[str, Any] = {name: size for size, names in SIZES.items() for name in names if name in fields}
    if text:
        ids = {"vocab_size": tokenizer.vocabulary_size, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        values |= ids | ({"decoder_start_token_id": 0} if "decoder_start_token_id" in fields else {})
    values |= one_layer_of_each_kind(kind) if "layer_types" in fields else {}
    for name, part in kind.sub_configs.items():
        if name in fields:
            part_kind = part if hasattr(part, "model_type") else type(getattr(kind(), name))
            is_text = "text" in name or name in ("decoder", "encoder")
            values[name] = small(part_kind, tokenizer, text=is_text) | {"model_type": part_kind.model_type}
    return values | FURTHER.get(kind.model_type, {})


def one_layer_of_each_kind(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """The kinds of layers that a configuration mixes, such as linear and full attention, each once."""
    kinds = list(dict.fromkeys(getattr(kind(), "layer_types", None) or []))
    return {"layer_types": kinds, "num_hidden_layers": len(kinds)} if len(kinds) > 1 else {}


def write_layout(model_type: str, auto: Any, tokenizer: ReportTokenizer, folder: Path) -> str:
    """Write a checkpoint with random weights; its class."""
    config = CONFIG_MAPPING[model_type](**small(CONFIG_MAPPING[model_type], tokenizer))
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_id
    if model_type == "encoder-decoder":  # as EncoderDecoderConfig.from_encoder_decoder_configs does
        config.decoder.is_decoder = config.decoder.add_cross_attention = True
    torch.manual_seed(0)
    model = auto.from_config(config, dtype=torch.float32)
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > 20_000_000:
        raise ValueError(f"a layout of {size:,} parameters is not small")
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return type(model).__name__


def tried(model_type: str, auto: Any, tokenizer: ReportTokenizer, folder: Path) -> str:
    """What task=check says of a random layout: the passed checks and the first message of the others."""
    try:
        write_layout(model_type, auto, tokenizer, folder)
    except Exception as error:  # nobody has drawn this type yet
        return f"no layout was drawn: {type(error).__name__}: {short(error)}"
    composed = compose([f"lm.path={folder}", "lm=auto", *DATA, *RUN])
    config = checked(composed.plain | {"run_dir": str(folder / "run")}, composed.choices)
    try:
        with redirect_stdout(StringIO()):
            results = run_checks(Preflight(config, torch.device("cpu")).checks(), lambda result: None)
    except UserError as error:
        return str(error)
    passed = sum(result.status == PASS for result in results)
    failed = next((result for result in results if result.status != PASS), None)
    if failed is None:
        return f"{passed} of {len(results)}"
    if not passed and failed.message.startswith("lm.path: "):
        return short(failed.message.replace(f"{folder}/", "").replace(str(folder), "FOLDER"))
    return f"{passed} of {len(results)}; {failed.name}: {short(failed.message)}"


def short(error: Exception | str) -> str:
    return " ".join(str(error).split())[:300]


def in_a_process(model_type: str, auto: Any, tokenizer: ReportTokenizer) -> str:
    """`tried`, within a time limit and without harm to the other types."""
    forked = multiprocessing.get_context("fork")
    receiving, sending = forked.Pipe(duplex=False)

    def work(answer: Connection) -> None:
        with tempfile.TemporaryDirectory() as folder:
            answer.send(tried(model_type, auto, tokenizer, Path(folder)))

    process = forked.Process(target=work, args=(sending,))
    process.start()
    sending.close()
    try:
        result = receiving.recv() if receiving.poll(LIMIT_S) else f"no answer in {LIMIT_S} s"
    except EOFError:
        result = "the process ended without an answer"
    process.kill()
    process.join()
    return str(result)


def table(kind: str, results: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {result.replace('|', chr(92) + '|')} |" for name, result in results]
    return "\n".join([f"| {kind} | task=check |", "|---|---|", *lines])


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    chosen = [word for word in sys.argv[1:] if not word.startswith("--")]
    phantom = Phantom(train_studies=200, val_studies=0, test_studies=0, size_px=32, version=1)
    tokenizer = train_tokenizer([study.report for study in phantom.studies("train")], 512)
    for kind, (auto, types) in KINDS.items():
        results = []
        for model_type in sorted(chosen or types):
            if model_type not in types or (kind == "causal" and model_type in KINDS["image and text"][1]):
                continue
            began = time.monotonic()
            results.append((model_type, in_a_process(model_type, auto, tokenizer)))
            print(f"{kind}: {model_type}: {results[-1][1]} ({time.monotonic() - began:.0f} s)", flush=True)
        if "--write" in sys.argv:
            before, start, rest = TABLES.read_text(encoding="utf-8").partition(f"<!-- {kind} -->\n")
            after = rest.partition(f"<!-- end of {kind} -->")[2]
            new = f"{before}{start}{table(kind, results)}\n<!-- end of {kind} -->{after}"
            TABLES.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
