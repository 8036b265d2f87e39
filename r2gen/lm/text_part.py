"""The text part of a multimodal checkpoint (Gemma 3, Qwen2.5-VL, LLaVA): its class and its tensors."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from r2gen.errors import UserError
from r2gen.lm.checkpoint import SAME_AS

IMAGE_POSITIONS = ("mrope_section", "mrope_interleaved")  # of rope_parameters in the text parts of SAME_AS


@dataclass(frozen=True)
class TextPart:
    """What distinguishes the tensors of the text part in the files of the whole model."""

    whole: str  # the model_type of the whole
    renamed: dict[str, str]  # patterns of the names in the files, and what replaces them in the class of the text part

    def name(self, published: str) -> str:
        """The name of a tensor in the files in the class of the text part."""
        for pattern, replacement in self.renamed.items():
            published = re.sub(pattern, replacement, published)
        return published

    def others(self, model: PreTrainedModel, published: Iterable[str]) -> Counter[str]:
        """The number of tensors in the files of each other part, such as `vision_tower`."""
        own = beginnings(model)
        names = (self.name(name) for name in published)
        return Counter(name.removeprefix("model.").split(".")[0] for name in names if beginning(name) not in own)

    def refuse_other_names(self, folder: Path, model: PreTrainedModel, missing: Iterable[str]) -> None:
        """Raise UserError if every layer lacks a tensor: the files have them under names that nobody mapped."""
        names = sorted(missing)
        lacking = {match[1] for name in names if (match := re.search(r"\.layers\.(\d+)\.", name))}
        if len(lacking) == model.config.num_hidden_layers:
            raise UserError(
                f"lm.path: {folder}: a multimodal model ({self.whole}) that stores the tensors of its text part "
                f"({model.config.model_type}) under names which R2Gen does not read: {len(names)} are missing, such as "
                f"{names[0]}: use a checkpoint for text"
            )

    def forget_names(self, model: PreTrainedModel) -> None:
        """Let save_pretrained write the names of the text part's own class: it would write those of the files."""
        conversions: Any = getattr(model, "_weight_conversions", None) or []
        others = [step for step in conversions if not set(step.source_patterns) <= set(self.renamed)]
        model._weight_conversions = others  # type: ignore[assignment]


def read_text_part(config: PreTrainedConfig, file: Path) -> tuple[PreTrainedConfig, TextPart | None]:
    """The configuration of the text part; `config` itself and None if it is that of a language model.

    Raises UserError if transformers has no class for the text part; `file` is config.json.
    """
    causal: Any = AutoModelForCausalLM
    seq2seq: Any = AutoModelForSeq2SeqLM
    if config.is_encoder_decoder or "text_config" not in config.sub_configs:
        if type(config) not in (seq2seq if config.is_encoder_decoder else causal)._model_mapping:
            raise _no_class(config.model_type, file, part="")
        return config, None
    text = config.get_text_config()
    whole = causal._model_mapping.get(type(config), None)
    if whole is not None and whole.config_class is type(text):  # Llama-3.2 Vision: transformers lists it by the whole
        causal.register(type(text), whole, exist_ok=True)
    if text.model_type in SAME_AS:
        text = _as_language_model(text, SAME_AS[text.model_type])
    if type(text) not in causal._model_mapping:
        raise _no_class(config.model_type, file, part=f" ({text.model_type})")
    text.tie_word_embeddings = getattr(config, "tie_word_embeddings", text.tie_word_embeddings)
    if getattr(config, "quantization_config", None) is not None:
        text.quantization_config = config.quantization_config
    inner = causal._model_mapping[type(text)].base_model_prefix
    inner = "model" if inner == "language_model" else inner  # of Llama 4 and Llama 3.2 Vision
    # published: language_model.model.layers and language_model.lm_head; transformers 5: model.language_model.layers
    renamed = {r"^language_model\.": "", r"^model\.(?:language_model|text_model)\.": f"{inner}."}
    return text, TextPart(config.model_type, renamed)


def _no_class(model_type: str, file: Path, *, part: str) -> UserError:
    return UserError(
        f"lm.path: {file} says model_type={model_type}, a multimodal model, and transformers "
        f"{transformers.__version__} has no class for its text part{part}: use a checkpoint for text"
    )


def _as_language_model(text: PreTrainedConfig, model_type: str) -> PreTrainedConfig:
    fields = {name: value for name, value in text.to_dict().items() if name != "model_type"}
    rope = fields.get("rope_parameters") or {}
    fields["rope_parameters"] = {name: value for name, value in rope.items() if name not in IMAGE_POSITIONS}
    return CONFIG_MAPPING[model_type](**fields)


def beginnings(model: PreTrainedModel) -> set[str]:
    """The beginnings of the names of a model's tensors."""
    return {beginning(name) for name in model.state_dict()}


def beginning(name: str) -> str:
    """`model.layers` of `model.layers.0.mlp.up_proj.weight`, and `lm_head` of `lm_head.weight`."""
    parts = name.split(".")
    return ".".join(parts[: max(1, min(2, len(parts) - 1))])
