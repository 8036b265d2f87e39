"""The map between the published names of a family's tensors and the names in transformers' class."""

from collections.abc import Iterable, Iterator

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming


def rename(published: str, native: str) -> WeightRenaming:
    """Rename a part of a tensor's name, its dots included; `^` stands for the beginning of the name."""
    return WeightRenaming(_pattern(published), _pattern(native))


def fused_qkv(published: str, operation: ConversionOps) -> WeightConverter:
    """Split one published tensor into the query, key and value projections."""
    native = [_pattern(f".self_attn.{part}_proj.") for part in "qkv"]
    return WeightConverter(_pattern(published), native, operations=[operation])


def published_names(model: PreTrainedModel, names: Iterable[str]) -> Iterator[str]:
    """Each name as save_pretrained would write it."""
    steps = [step.reverse_transform() for step in get_model_conversion_mapping(model, add_legacy=False)[::-1]]
    for name in names:
        for step in sorted(steps, key=lambda step: isinstance(step, WeightRenaming)):  # parts of fused tensors first
            name, _ = step.rename_source_key(name)
        yield name


def _pattern(name: str) -> str:
    return name.replace(".", r"\.")
