"""How a family makes itself known to transformers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming


def register_family(
    config: type[PreTrainedConfig], model: type[PreTrainedModel], mapping: Sequence[WeightRenaming | WeightConverter]
) -> None:
    """From now on the Auto classes read this model_type, whatever code a checkpoint of it may carry."""
    AutoConfig.register(config.model_type, config, exist_ok=True)  # transformers 5.23 has an internlm3 of its own
    causal: Any = AutoModelForCausalLM
    causal.register(config, model, exist_ok=True)
    register_checkpoint_conversion_mapping(config.model_type, [*mapping], overwrite=True)


def rename(published: str, native: str) -> WeightRenaming:
    """A piece of a name, dots and all; `^` stands for the beginning of the name."""
    return WeightRenaming(_pattern(published), _pattern(native))


def fused_qkv(published: str, operation: ConversionOps) -> WeightConverter:
    """A fused tensor to the native projections."""
    native = [_pattern(f".self_attn.{part}_proj.") for part in "qkv"]
    return WeightConverter(_pattern(published), native, operations=[operation])


def published_names(model: PreTrainedModel, names: Iterable[str]) -> Iterator[str]:
    """Each name as save_pretrained would write it."""
    steps = [step.reverse_transform() for step in get_model_conversion_mapping(model, add_legacy=False)[::-1]]
    for name in names:
        for step in sorted(steps, key=lambda step: isinstance(step, WeightRenaming)):  # a fused tensor's part first
            name, _ = step.rename_source_key(name)
        yield name


def _pattern(name: str) -> str:
    return name.replace(".", r"\.")
