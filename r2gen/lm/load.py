"""Language models from a checkpoint folder, from the hub, or drawn at random."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.errors import UserError
from r2gen.lm import families
from r2gen.lm.causal import CausalLM
from r2gen.lm.checkpoint import Checkpoint, find_checkpoint
from r2gen.lm.families.fields import UnsupportedFormat
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.seq2seq import Seq2SeqLM
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONFIG_ERRORS = (KeyError, TypeError, AttributeError, ValueError, ImportError, StrictDataclassError)
RANDOM_POSITIONS = 2048  # prompt and report of a random LLaMA
IGNORABLE = re.compile(r"rotary(_pos)?_emb\.inv_freq$")  # derived from the config; old checkpoints carry it


def load_lm(
    path: str | Path, *, revision: str | None = None, family: str | None = None, dtype: str = "float32",
    attention: str = "auto", stop: Sequence[str] = (),
    special_tokens: Mapping[str, str | int | None] | None = None, gradient_checkpointing: bool = False,
    quantization: QuantizationConfigMixin | None = None, device_map: str | dict[str, Any] | None = None,
) -> LanguageModel:  # fmt: skip
    """The language model of a folder or of a hub id, in eval(), on the CPU unless `device_map` places it.

    The family is read from config.json, and must be `family` (its model_type) where one is given; code from the
    checkpoint is never run. `dtype` is float32, bfloat16, float16 or auto (the checkpoint's own), `attention` sdpa,
    eager or auto (sdpa where the family has it), `stop` and `special_tokens` as in read_tokenizer. `revision` is the
    hub's. Weights are streamed, and quantised on the way by `quantization`. Raises UserError where the checkpoint is
    missing, incomplete, damaged, or of another family.
    """
    checkpoint = find_checkpoint(path, revision)
    _check_family(checkpoint, family)
    families.register(checkpoint.model_type)
    config = _read_config(checkpoint)
    folder = checkpoint.folder
    tokenizer = read_tokenizer(folder, stop=stop, special_tokens=special_tokens)
    model = _read_model(checkpoint, config, dtype=dtype, attention=attention, quantization=quantization,
                        device_map=device_map)  # fmt: skip
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    used = max(*tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id or 0, tokenizer.vocabulary_size - 1)
    if used >= rows:
        raise UserError(f"lm.path: {folder}: the tokenizer has ids up to {used}, the weights {rows} rows: these files "
                        "do not belong together")  # fmt: skip
    if model.config.is_encoder_decoder:
        return Seq2SeqLM(model, tokenizer, gradient_checkpointing=gradient_checkpointing)
    return CausalLM(model, tokenizer, gradient_checkpointing=gradient_checkpointing)


def random_lm(
    *, tokenizer: ReportTokenizer, seed: int, hidden_size: int, num_hidden_layers: int, num_attention_heads: int,
    intermediate_size: int, dtype: str = "float32", attention: str = "sdpa", gradient_checkpointing: bool = False,
) -> LanguageModel:  # fmt: skip
    """A LLaMA of this shape with weights drawn from the seed; the caller's random state is left as it was.

    `dtype` and `attention` as in load_lm (auto is float32 here); the draw is the same in every dtype. Raises
    UserError where the heads do not divide the width into even parts, which rotary positions need.
    """
    if hidden_size % (2 * num_attention_heads):
        raise UserError(f"lm.architecture.hidden_size={hidden_size}: give a multiple of twice num_attention_heads="
                        f"{num_attention_heads}")  # fmt: skip
    config = LlamaConfig(
        vocab_size=tokenizer.vocabulary_size, hidden_size=hidden_size, num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads, intermediate_size=intermediate_size,
        max_position_embeddings=RANDOM_POSITIONS, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.end_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa" if attention == "auto" else attention
        )
    for parameter in model.parameters():  # not model.to(): rotary frequencies are buffers and stay in float32
        parameter.data = parameter.data.to(torch.float32 if dtype == "auto" else DTYPES[dtype])
    return CausalLM(model.eval(), tokenizer, gradient_checkpointing=gradient_checkpointing)


def _check_family(checkpoint: Checkpoint, family: str | None) -> None:
    file, found = checkpoint.folder / "config.json", checkpoint.model_type
    if family is not None and found != family:
        raise UserError(f"lm.family={family}, but {file} says model_type={found}: choose the lm= of that family, or "
                        f"lm.family={found} to use it with this prompt")  # fmt: skip
    if found not in families.supported() and found != family:
        raise UserError(f"lm.path: {file} says model_type={found}; supported: {', '.join(families.supported())}; try "
                        f"another that transformers loads by itself with lm.family={found}")  # fmt: skip


def _read_config(checkpoint: Checkpoint) -> PreTrainedConfig:
    file = checkpoint.folder / "config.json"
    try:
        with _quiet():
            return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except UnsupportedFormat as error:
        raise UserError(f"lm.path: {file}: {error}") from error
    except CONFIG_ERRORS as error:
        raise UserError(f"lm.path: transformers cannot build what {file} describes: {error}") from error


def _read_model(
    checkpoint: Checkpoint, config: PreTrainedConfig, *, dtype: str, attention: str,
    quantization: QuantizationConfigMixin | None, device_map: str | dict[str, Any] | None,
) -> PreTrainedModel:  # fmt: skip
    folder = checkpoint.folder
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    # None would take the place of what config.json says of a checkpoint that was quantised before.
    quantised = {} if quantization is None else {"quantization_config": quantization}
    try:
        with _quiet():
            loaded: Any = auto.from_pretrained(
                folder, config=config, dtype="auto" if dtype == "auto" else DTYPES[dtype],
                attn_implementation=_attention(auto, config, attention), device_map=device_map,
                trust_remote_code=False, local_files_only=True, weights_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True, **quantised,
            )  # fmt: skip
    except (UnpicklingError, EOFError) as error:  # torch's text advises to run what the file holds
        raise UserError(f"lm.path: the weights in {folder} cannot be read: a *.bin file is damaged, not fetched "
                        "through git lfs, or holds more than tensors") from error  # fmt: skip
    except (OSError, SafetensorError) as error:
        raise UserError(f"lm.path: the weights in {folder} cannot be read: {error}") from error
    except CONFIG_ERRORS as error:
        file = folder / "config.json"
        raise UserError(f"lm.path: transformers cannot build what {file} describes: {error}") from error
    model, report = loaded
    _check_complete(folder, report)
    _check_shapes(folder, model)
    return model.eval()


def _attention(auto: Any, config: PreTrainedConfig, attention: str) -> str:
    """The implementation, always named: a config.json may ask for one, which transformers would obey."""
    architecture = auto._model_mapping[type(config)]
    # transformers 5.17 runs Gemma-2 by sdpa without the soft caps on its scores (logits .05 off); 5.23 refuses it
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    eager_only = capped or not architecture._supports_sdpa
    if attention == "sdpa" and eager_only:
        raise UserError(f"lm.attention=sdpa: {architecture.__name__} has eager attention only: use lm.attention=auto")
    return attention if attention != "auto" else "eager" if eager_only else "sdpa"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its table of tensors, of which _check_complete says what matters."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _check_complete(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that do not fill the model exactly; transformers would draw the missing ones at random."""
    for kind in ("missing", "unexpected", "mismatched"):
        keys = [key if isinstance(key, str) else key[0] for key in report[f"{kind}_keys"]]
        names = sorted(name for name in keys if not IGNORABLE.search(name))
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(f"lm.path: {folder}: {len(names)} {kind} tensors: {shown}; the weights and config.json do "
                            "not belong together, or a file is incomplete")  # fmt: skip


def _check_shapes(folder: Path, model: nn.Module) -> None:
    """transformers compares no shapes of tensors that are quantised on the way."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        state = getattr(module.weight, "quant_state", None)  # of 4 bits, whose weight is packed
        found, expected = tuple((state or module.weight).shape), (module.out_features, module.in_features)
        if found != expected:
            raise UserError(f"lm.path: {folder}: {name}.weight is {found} where config.json promises {expected}: the "
                            "files do not belong together")  # fmt: skip
