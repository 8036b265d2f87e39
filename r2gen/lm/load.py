"""Language models from a checkpoint folder, from the hub, or with random weights."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from r2gen.config.lm_rules import LmFacts
from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.lm import families
from r2gen.lm.causal import CausalLM
from r2gen.lm.checkpoint import Checkpoint, find_checkpoint, refuse_other_family, weight_files
from r2gen.lm.embedding_support import check_class, check_embeddings
from r2gen.lm.fp8 import to_fp8
from r2gen.lm.per_layer_inputs import pass_per_layer_inputs
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.quantize import Quantisation, check_format, use_frozen_backward
from r2gen.lm.seq2seq import Seq2SeqLM
from r2gen.lm.text_part import read_text_part
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, tokenizer_tried
from r2gen.lm.weights import DTYPES, check_forward, read_config, read_model

RANDOM_POSITIONS = 2048  # of prompt and report, for a random LLaMA


def load_lm(
    path: str | Path,
    *,
    revision: str | None = None,
    family: str | None = None,
    dtype: str = "float32",
    attention: str = "auto",
    stop: Sequence[str] | None = (),
    special_tokens: Mapping[str, str | int | None] | None = None,
    gradient_checkpointing: bool = False,
    quantization: Quantisation | None = None,
    device_map: str | Plain | None = None,
    check: Callable[[LmFacts], None] | None = None,
    tried: bool = False,
) -> LanguageModel:
    """The language model in a folder or of a hub id, in eval(), on the CPU unless `device_map` says otherwise.

    config.json names the family, which must be `family` (a model_type) if one is given; code in the checkpoint is never
    run. `dtype` is float32, bfloat16, float16 or auto (that of the checkpoint); `attention` is sdpa, eager or auto
    (sdpa where it is exact); `stop` and `special_tokens` are as in read_tokenizer; `revision` is that of the hub.
    Weights are streamed, and quantised by `quantization` while they are read (fp8: afterwards, layer by layer). `check`
    is called before, and may raise. A model that was `tried` before is not tried again (runs/tried.py).
    Raises UserError if the checkpoint is missing, incomplete, damaged, or of another family.
    """
    checkpoint = find_checkpoint(path, revision)
    _check_family(checkpoint, family)
    check_format(quantization, model_type=checkpoint.model_type)
    config, part = read_text_part(read_config(checkpoint), checkpoint.folder / "config.json")
    if check is not None:
        before = getattr(config, "quantization_config", None) is not None
        check(LmFacts(before or quantization is not None, config.is_encoder_decoder, quantised_before=before))
    folder = checkpoint.folder
    if checkpoint.gguf is None:
        weight_files(folder)
    elif quantization is not None:
        raise UserError(
            f"quant: {checkpoint.gguf} is quantised already, and transformers reads it in full precision only: use "
            "quant=none"
        )
    # The tokenizer is tried in another process, which takes as long as the weights of a small model.
    with nullcontext() if tried else tokenizer_tried(folder):
        model = read_model(
            checkpoint,
            config,
            dtype=dtype,
            attention=attention,
            quantization=None if quantization == "fp8" else quantization,
            device_map=device_map,
            part=part,
            size_is_known=tried,
        )
    tokenizer = read_tokenizer(folder, stop=stop, special_tokens=special_tokens, tried=True)
    if quantization == "fp8":
        to_fp8(model)
    use_frozen_backward(model)
    _fit_special_tokens(folder, model, tokenizer, chosen=special_tokens or {})
    check_class(model)
    pass_per_layer_inputs(model)
    if not tried:
        check_forward(folder, model)
    kind = Seq2SeqLM if model.config.is_encoder_decoder else CausalLM
    lm = kind(model, tokenizer, gradient_checkpointing=gradient_checkpointing)
    if not tried:
        check_embeddings(lm)
    elif isinstance(lm, CausalLM):
        lm.trust_tree()
    return lm


def random_lm(
    *,
    tokenizer: ReportTokenizer,
    seed: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
    tie_word_embeddings: bool = False,
    attention_dropout: float = 0.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    gradient_checkpointing: bool = False,
) -> LanguageModel:
    """A LLaMA of this shape with weights drawn from the seed; the caller's random state is not changed.

    `dtype` and `attention` are as in load_lm (auto is float32 here); the weights are the same in every dtype, up to
    rounding.
    """
    config = LlamaConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=RANDOM_POSITIONS,
        tie_word_embeddings=tie_word_embeddings,
        attention_dropout=attention_dropout,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa" if attention == "auto" else attention
        )
    for parameter in model.parameters():  # model.to() would round the rotary frequencies, which are buffers
        parameter.data = parameter.data.to(torch.float32 if dtype == "auto" else DTYPES[dtype])
    return CausalLM(model.eval(), tokenizer, gradient_checkpointing=gradient_checkpointing)


def _fit_special_tokens(
    folder: Path, model: PreTrainedModel, tokenizer: ReportTokenizer, *, chosen: Mapping[str, str | int | None]
) -> None:
    """Drop the special tokens for which the weights have no row: published files list some that no text contains.

    Padding is then the EOS token. Raises UserError if a text, the first EOS token or a `chosen` token needs such a row.
    """
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    has = f"the weights have {rows} rows"
    if tokenizer.vocabulary_size > rows:
        raise UserError(
            f"lm.path: {folder}: the tokenizer has ids up to {tokenizer.vocabulary_size - 1}, but {has}: these files "
            "do not belong together; download the checkpoint again"
        )
    for name, i in (("pad", tokenizer.pad_id), ("bos", tokenizer.bos_id)):
        if i is not None and i >= rows and chosen.get(name) is not None:
            raise UserError(f"lm.special_tokens.{name}={chosen[name]} has id {i}, but {has}: choose another token")
    if tokenizer.eos_id >= rows:
        raise UserError(
            f"lm.path: {folder}: the EOS token that ends a report has id {tokenizer.eos_id}, but {has}: name another "
            "one in lm.stop or lm.special_tokens.eos"
        )
    tokenizer.eos_ids = tuple(i for i in tokenizer.eos_ids if i < rows)
    tokenizer.pad_id = tokenizer.pad_id if tokenizer.pad_id < rows else tokenizer.eos_id
    tokenizer.bos_id = tokenizer.bos_id if tokenizer.bos_id is not None and tokenizer.bos_id < rows else None


def _check_family(checkpoint: Checkpoint, family: str | None) -> None:
    """Refuse another family than that of the prompt, and a model_type that neither transformers nor R2Gen can read."""
    refuse_other_family(checkpoint, family)
    file = checkpoint.folder / "config.json"
    if checkpoint.model_type == "None":
        raise UserError(
            f"lm.path: {file} has no model_type: it is not that of a language model, or is incomplete: "
            "download the checkpoint's own"
        )
    if checkpoint.model_type not in families.supported():
        raise UserError(
            f"lm.path: {file} says model_type={checkpoint.model_type}, which is no "
            f"language model that transformers {transformers.__version__} or R2Gen has a class for: choose another "
            "checkpoint, or install a later version of transformers"
        )


def refuse_offloaded_layers(lm: LanguageModel) -> None:
    """Raise UserError if lm.device_map=auto has put layers on the CPU or the disk, where they have no gradients."""
    layers: dict[str, object] = getattr(lm.model, "hf_device_map", None) or {}
    if {str(device) for device in layers.values()} & {"cpu", "disk"}:
        raise UserError(
            "lm.device_map=auto: this language model does not fit on the GPUs here, and layers on the CPU or disk have "
            "no gradients. Use quant=nf4, or more GPUs"
        )
