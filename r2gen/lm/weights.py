"""The weights of a checkpoint in a native model: streamed, quantised on the way, strictly every tensor and no other."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.errors import UserError
from r2gen.lm import families
from r2gen.lm.checkpoint import Checkpoint, weight_files
from r2gen.lm.families.fields import UnsupportedFormat

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONFIG_ERRORS = (KeyError, TypeError, AttributeError, ValueError, ImportError, ArithmeticError, StrictDataclassError)
IGNORABLE = re.compile(r"rotary(_pos)?_emb\.inv_freq$")  # derived from the config; old checkpoints carry it


def read_config(checkpoint: Checkpoint) -> PreTrainedConfig:
    """What config.json describes, in the native class of its family. Raises UserError where that has no such thing."""
    families.register(checkpoint.model_type)
    file = checkpoint.folder / "config.json"
    try:
        with _quiet():
            return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except UnsupportedFormat as error:
        raise UserError(f"lm.path: {file}: {error}") from error
    except CONFIG_ERRORS as error:
        raise UserError(f"lm.path: transformers cannot build what {file} describes: {_line(error)}") from error


def read_model(
    checkpoint: Checkpoint,
    config: PreTrainedConfig,
    *,
    dtype: str,
    attention: str,
    quantization: QuantizationConfigMixin | None,
    device_map: str | dict[str, Any] | None,
) -> PreTrainedModel:
    """The model in eval(); parameters as in load_lm. Raises UserError naming the tensor or file that is wrong."""
    folder = checkpoint.folder
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    # None would take the place of what config.json says of a checkpoint that was quantised before.
    quantised = {} if quantization is None else {"quantization_config": quantization}
    try:
        with _quiet():
            loaded: Any = auto.from_pretrained(
                folder,
                config=config,
                dtype="auto" if dtype == "auto" else DTYPES[dtype],
                attn_implementation=_attention(auto, config, attention),
                device_map=device_map,
                trust_remote_code=False,
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **quantised,
            )
    except (UnpicklingError, EOFError) as error:  # torch's text advises to run what the file holds
        raise UserError(
            f"lm.path: the weights in {folder} cannot be read: a *.bin file is damaged, not fetched "
            "through git lfs, or holds more than tensors"
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise  # out of memory, and what else is no file's fault
        raise UserError(
            f"lm.path: the weights in {folder} cannot be read, a file is cut off or damaged: fetch it "
            f"again ({_line(error)})"
        ) from error
    except CONFIG_ERRORS as error:
        file = folder / "config.json"
        raise UserError(f"lm.path: transformers cannot build what {file} describes: {_line(error)}") from error
    model, report = loaded
    _check_complete(folder, model, report)
    _check_shapes(folder, model)
    _check_once(folder, model)
    return model.eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _attention(auto: Any, config: PreTrainedConfig, attention: str) -> str:
    """The implementation, always named: a config.json may ask for one, which transformers would obey."""
    architecture = auto._model_mapping[type(config)]
    # transformers 5.17 runs Gemma-2 by sdpa without the soft caps on its scores (logits .05 off); 5.23 refuses it
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    eager_only = capped or not architecture._supports_sdpa
    if attention == "sdpa" and eager_only:
        raise UserError(f"lm.attention=sdpa: {architecture.__name__} has eager attention only: use lm.attention=auto")
    # T5 does not scale its scores: on the CPU sdpa's logits are ten times further from the reference (4.9e-5)
    unscaled = config.is_encoder_decoder
    return attention if attention != "auto" else "eager" if eager_only or unscaled else "sdpa"


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


def _check_complete(folder: Path, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse weights that do not fill the model exactly; transformers would draw the missing ones at random."""
    for kind in ("missing", "unexpected", "mismatched"):
        keys = [key if isinstance(key, str) else key[0] for key in report[f"{kind}_keys"]]
        names = families.published_names(model, [name for name in keys if not IGNORABLE.search(name)])
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(
                f"lm.path: {folder}: {len(names)} {kind} tensors: {shown}; the weights and config.json do "
                "not belong together, or a file is incomplete"
            )


def _check_shapes(folder: Path, model: PreTrainedModel) -> None:
    """transformers compares no shapes of tensors that are quantised on the way."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        state = getattr(module.weight, "quant_state", None)  # of 4 bits, whose weight is packed
        found, expected = tuple((state or module.weight).shape), (module.out_features, module.in_features)
        if found != expected:
            (published,) = families.published_names(model, [f"{name}.weight"])
            raise UserError(
                f"lm.path: {folder}: {published} does not have the shape that config.json promises: the "
                "files do not belong together"
            )


def _check_once(folder: Path, model: PreTrainedModel) -> None:
    """Of two tensors for one place transformers takes either, without a word."""
    twice = families.said_twice(model, [name for file in weight_files(folder) for name in _tensor_names(file)])
    if twice:
        raise UserError(
            f"lm.path: {folder}: {len(twice)} unexpected tensors: {', '.join(twice[:5])}; the same weights "
            "are there under their published names"
        )


def _tensor_names(file: Path) -> list[str]:
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as tensors:
            return list(tensors.keys())
    return list(torch.load(file, map_location="meta", weights_only=True))
