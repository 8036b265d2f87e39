"""The model types that can be read, and what R2Gen knows about each: `family` looks it up.

Most families are read by transformers' own classes and need nothing here. A published format that transformers cannot
read has one module in this folder, named after the model_type in its config.json, which defines `FAMILY`.
"""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from r2gen.lm.conversion import tensor_names
from r2gen.lm.family import Family, TokenizerFormat

PUBLISHED = frozenset(module.name for module in iter_modules(__path__))


def supported() -> set[str]:
    """The model types that transformers or R2Gen may read, also those of which only the text part is used."""
    return {
        *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        *PUBLISHED,
    }


def family(model_type: str) -> Family:
    """What R2Gen knows about a model_type."""
    if model_type not in PUBLISHED:
        return Family()
    facts: Family = import_module(f"{__name__}.{model_type}").FAMILY
    return facts


def register(model_type: str) -> None:
    """Make transformers' Auto classes read a published format with our classes, also if the checkpoint has code."""
    published = family(model_type)
    if published.config is None or published.model is None:
        return
    AutoConfig.register(model_type, published.config, exist_ok=True)  # transformers 5.23 has an internlm3 of its own
    causal: Any = AutoModelForCausalLM
    causal.register(published.config, published.model, exist_ok=True)
    register_checkpoint_conversion_mapping(model_type, [*published.tensors], overwrite=True)


def tokenizer_formats() -> list[TokenizerFormat]:
    """The published tokenizer formats of all families."""
    return [kind for model_type in sorted(PUBLISHED) for kind in family(model_type).tokenizers]


def published_names(model: Any, names: Iterable[str]) -> list[str]:
    """The names of a model's tensors in the files of its family, sorted; several tensors may be parts of one."""
    if model.config.model_type in PUBLISHED:
        names = tensor_names.published_names(model, names)
    return sorted(set(names))


def duplicated_names(model: Any, names: Iterable[str]) -> list[str]:
    """The native tensor names in a checkpoint's files whose published name is in them too."""
    if model.config.model_type not in PUBLISHED:
        return []
    in_files = sorted(set(names))
    pairs = zip(in_files, tensor_names.published_names(model, in_files), strict=True)
    return [native for native, published in pairs if native != published and published in in_files]
