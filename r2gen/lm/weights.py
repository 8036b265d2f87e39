"""Reading the weights of a checkpoint into a native model: streamed, quantised on the way, and strictly complete."""

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.lm import early_weights, families
from r2gen.lm.checkpoint import Checkpoint, weight_files
from r2gen.lm.conversion.config_fields import UnsupportedFormat
from r2gen.lm.gguf import check_all_read
from r2gen.lm.library_logs import quiet_transformers
from r2gen.lm.quantize import is_quantised
from r2gen.lm.text_part import TextPart, beginning, beginnings
from r2gen.ranks import dist
from r2gen.runs.trial import attempt
from r2gen.runs.untrusted import refuse_compressed

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CONFIG_ERRORS = (
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ValueError,
    ImportError,
    ArithmeticError,
    RecursionError,
    StrictDataclassError,
)
PACKED = 16  # weights in an element of a checkpoint that was quantised before
MISSING = 2**27  # weights, which take 512 MiB
LARGEST_TRIED = 10**9  # parameters
TRIED_TOKENS = 8  # always as many: a GPU loads other kernels for another number of tokens
IGNORABLE = re.compile(r"rotary(_pos)?_emb\.inv_freq$")  # computed from config.json; old checkpoints contain it


def read_config(checkpoint: Checkpoint) -> PreTrainedConfig:
    """The configuration in config.json as the native class. Raises UserError if that class cannot express it.

    Of a multimodal checkpoint it is that of the whole: see read_text_part.
    """
    families.register(checkpoint.model_type)
    file = checkpoint.folder / "config.json"
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except UnsupportedFormat as error:
        raise UserError(f"lm.path: {file}: {error}") from error
    except (OSError, *CONFIG_ERRORS) as error:  # OSError: JSON that is valid here only, after a byte order mark
        raise _unreadable_config(checkpoint.folder, error) from error


def read_model(
    checkpoint: Checkpoint,
    config: PreTrainedConfig,
    *,
    dtype: str,
    attention: str,
    quantization: QuantizationConfigMixin | None,
    device_map: str | Plain | None,
    part: TextPart | None = None,
    size_is_known: bool = False,
) -> PreTrainedModel:
    """The model in eval(); parameters are as in load_lm. Raises UserError that names the wrong tensor or file.

    `config` is that of a `part` of the checkpoint, or of all of it. Its size is compared with that of the files before
    it is allocated, unless it is known to fit.
    """
    folder = checkpoint.folder
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    # None would replace the quantization_config of a checkpoint that was quantised before.
    quantised = {} if quantization is None else {"quantization_config": quantization}
    gguf = {} if checkpoint.gguf is None else {"gguf_file": str(checkpoint.gguf)}
    if checkpoint.gguf is None and not size_is_known:
        _check_size(folder, auto, config)
    names = [] if part is None else list(_all_names(folder))
    if part is not None and any(part.name(name).startswith("lm_head.") for name in names):
        config.tie_word_embeddings = False  # also if config.json of the whole says nothing about it
    early = early_weights.take(folder, device_map[""]) if isinstance(device_map, dict) else None
    if part is not None or gguf or quantised:
        early = None
    source: Any = auto if early is None else auto._model_mapping[type(config)]
    with quiet_transformers(), _readable_errors(folder):
        loaded: Any = source.from_pretrained(
            folder if early is None else None,
            state_dict=early,
            config=config,
            dtype="auto" if dtype == "auto" else DTYPES[dtype],
            attn_implementation=_attention(auto, config, attention),
            device_map=device_map,
            trust_remote_code=False,
            local_files_only=True,
            weights_only=True,
            generation_config=GenerationConfig(),  # that of the checkpoint is not read
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            key_mapping=None if part is None else part.renamed,
            **quantised,
            **gguf,
        )
    model, report = loaded
    if early is not None:
        early_weights.forget_peak()
    if part is not None:
        part.forget_names(model)
        own = beginnings(model)
        report["unexpected_keys"] = [name for name in report["unexpected_keys"] if beginning(name) in own]
        _report_others(part, model, names)
        part.refuse_other_names(folder, model, report["missing_keys"])
    _check_complete(folder, model, report)
    _check_shapes(folder, model)
    if checkpoint.gguf is None:
        _check_once(folder, model)
    else:
        check_all_read(checkpoint.gguf, model)
    return model.eval()


def check_forward(folder: Path, model: PreTrainedModel) -> None:
    """Refuse a config.json with which the model cannot read a few tokens.

    Not tried are a large model on a CPU, and a quantised one: bitsandbytes rearranges its weights the first time.
    """
    large = model.device.type == "cpu" and sum(parameter.numel() for parameter in model.parameters()) > LARGEST_TRIED
    if large or any(map(is_quantised, model.parameters())):
        return
    ids_BT = torch.zeros(
        1, TRIED_TOKENS, dtype=torch.long, device=model.get_input_embeddings().get_parameter("weight").device
    )
    decoder = {"decoder_input_ids": ids_BT} if model.config.is_encoder_decoder else {}
    try:
        with torch.no_grad():
            model(input_ids=ids_BT, use_cache=False, **decoder)
    except CONFIG_ERRORS as error:
        raise _unreadable_config(folder, error) from error
    except RuntimeError as error:
        if "shape" in str(error) or "size" in str(error):
            raise _unreadable_config(folder, error) from error
        raise


@contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of transformers, torch and safetensors into a UserError that names the file."""
    try:
        yield
    except (UnpicklingError, EOFError) as error:  # torch's own message advises to run the code in the file
        raise UserError(
            f"lm.path: the weights in {folder} cannot be read: a *.bin file is damaged, was not downloaded through git "
            "lfs, or holds more than tensors; download it again"
        ) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise  # out of memory, for example, which is not the fault of a file
        raise UserError(
            f"lm.path: the weights in {folder} cannot be read: a file is truncated or damaged ({_line(error)}); "
            "download it again"
        ) from error
    except CONFIG_ERRORS as error:
        raise _unreadable_config(folder, error) from error


def _check_size(folder: Path, auto: Any, config: PreTrainedConfig) -> None:
    """Refuse a config.json of a model that is larger than the files, before transformers allocates it."""
    with _readable_errors(folder):
        auto._model_mapping[type(config)]  # imported here, so that the child does not take time for it

    def parameters() -> int:
        with torch.device("meta"), quiet_transformers():
            model: Any = auto.from_config(copy.deepcopy(config), attn_implementation="eager")
        return sum(parameter.numel() for parameter in model.parameters())

    described = attempt(parameters, lambda why: _unreadable_config(folder, ValueError(why)))
    stored = sum(_stored_weights(file) for file in weight_files(folder))
    if getattr(config, "quantization_config", None) is not None:
        stored *= PACKED
    if described > stored + MISSING:  # fewer are named, once transformers has read the others
        raise UserError(
            f"lm.path: {folder}/config.json describes a model of {described:,} weights, and the files have {stored:,}: "
            "the weights and config.json do not belong together: download the checkpoint again"
        )


def _stored_weights(file: Path) -> int:
    """The number of weights in a file, which is refused by name if it is not one of tensors."""
    if file.suffix == ".safetensors":
        with _readable_errors(file.parent), safe_open(file, "pt") as tensors:
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    with _readable_errors(file.parent):
        try:
            refuse_compressed(file)
            content = torch.load(file, map_location="meta", weights_only=True)
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise OSError(f"{file.name}: {_line(error):.200}") from error
        if not isinstance(content, dict) or not all(
            isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in content.items()
        ):
            raise OSError(f"{file.name} has something else than tensors by name")
    return sum(tensor.numel() for tensor in content.values())


def _unreadable_config(folder: Path, error: Exception) -> UserError:
    file = folder / "config.json"
    return UserError(f"lm.path: transformers cannot build what {file} describes: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _attention(auto: Any, config: PreTrainedConfig, attention: str) -> str:
    """The implementation of attention, always explicit, since transformers would use the one named in config.json."""
    architecture = auto._model_mapping[type(config)]
    # transformers 5.17 runs Gemma-2 by sdpa without the soft caps of its scores (logits differ by .05); 5.23 refuses it
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    eager_only = capped or not architecture._supports_sdpa
    if attention == "sdpa" and eager_only:
        raise UserError(
            f"lm.attention=sdpa: {architecture.__name__} supports eager attention only: use lm.attention=auto"
        )
    # T5 does not scale its scores: on the CPU the error of sdpa's logits is ten times larger (4.9e-5)
    unscaled = config.is_encoder_decoder
    return attention if attention != "auto" else "eager" if eager_only or unscaled else "sdpa"


def _check_complete(folder: Path, model: PreTrainedModel, report: Plain) -> None:
    """Refuse weights that do not match the model exactly; transformers would draw missing ones at random."""
    for kind in ("missing", "unexpected", "mismatched"):
        keys = [key if isinstance(key, str) else key[0] for key in report[f"{kind}_keys"]]
        names = families.published_names(model, [name for name in keys if not IGNORABLE.search(name)])
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise UserError(
                f"lm.path: {folder}: {len(names)} {kind} tensors: {shown}; the weights and config.json do not belong "
                "together, or a file is incomplete: download the checkpoint again"
            )


def _check_shapes(folder: Path, model: PreTrainedModel) -> None:
    """Refuse tensors of a wrong shape; transformers does not compare the shapes of those that it quantises."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        state = getattr(module.weight, "quant_state", None)  # of a 4-bit weight, which is packed
        shape, expected = tuple((state or module.weight).shape), (module.out_features, module.in_features)
        if shape != expected:
            (published,) = families.published_names(model, [f"{name}.weight"])
            raise UserError(
                f"lm.path: {folder}: {published} does not have the shape that config.json describes: the files do not "
                "belong together; download the checkpoint again"
            )


def _report_others(part: TextPart, model: PreTrainedModel, names: Sequence[str]) -> None:
    """Print how many tensors in the files belong to the text part, and how many to which other part."""
    others = part.others(model, names)
    if dist.is_first():
        listed = ", ".join(f"{name} {count}" for name, count in others.most_common())
        print(
            f"lm.path: the text part ({model.config.model_type}) of a multimodal model ({part.whole}): "
            f"{len(names) - others.total():,} tensors are read, {others.total():,} of other parts are not: {listed}",
            flush=True,
        )


def _check_once(folder: Path, model: PreTrainedModel) -> None:
    """Refuse two tensors for the same parameter, of which transformers would silently use either."""
    twice = families.duplicated_names(model, _all_names(folder))
    if twice:
        raise UserError(
            f"lm.path: {folder}: {len(twice)} unexpected tensors: {', '.join(twice[:5])}; the same weights are there "
            "under their published names: download the checkpoint again"
        )


def _all_names(folder: Path) -> Iterator[str]:
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                yield from tensors.keys()
        else:
            yield from torch.load(file, map_location="meta", weights_only=True)
