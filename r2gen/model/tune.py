"""What is trained: the only place that sets requires_grad, and the table of its choices."""

from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from r2gen.errors import UserError
from r2gen.lm.quantize import weight_count
from r2gen.model.qkv import PARTS, join_qkv, split_qkv
from r2gen.model.report_generator import ReportGenerator


@dataclass(frozen=True)
class Lora:
    """LoRA (Hu et al., 2021) with rank r, scaled by alpha / r."""

    r: int
    alpha: int
    dropout: float


@dataclass(frozen=True)
class PartSize:
    """The number of parameters in one part of the model."""

    part: str
    total: int
    trainable: int


def choose_trainable(
    model: ReportGenerator,
    *,
    vision: str,
    vision_lora: Lora | None,
    lm: str,
    lm_lora: Lora | None,
    lm_lora_targets: list[str] | None,
    lm_is_random: bool,
    encoder_only: bool = False,
) -> None:
    """Freeze the model, then make trainable what `vision` and `lm` say: frozen, lora or full.

    `lm` may be auto too, which is full for random weights and else frozen. The projector, the embeddings of images and
    the findings in the prompt are random and always trained, except that with `encoder_only` nothing but the encoder
    trains. LoRA layers are added in place: to all linear layers of the language model's blocks if `lm_lora_targets` is
    None. The weights of a frozen part keep every byte.
    """
    model.requires_grad_(False)
    model.projector.requires_grad_(not encoder_only)  # type: ignore[attr-defined]
    _set_mode(model.vision.backbone, vision, vision_lora, model.vision.lora_targets, "vision")
    model.vision.join.requires_grad_(True)
    if model.vision.embedding is not None:
        model.vision.embedding.requires_grad_(True)
    if encoder_only:
        return
    if model.findings is not None:
        model.findings.requires_grad_(True)
    lm_mode = ("full" if lm_is_random else "frozen") if lm == "auto" else lm
    targets = linear_layers(model.lm.model) if lm_lora_targets is None else lm_lora_targets
    _set_mode(model.lm.model, lm_mode, lm_lora, targets, "lm")


def _set_mode(part: nn.Module, mode: str, lora: Lora | None, targets: list[str], name: str) -> None:
    if mode == "full":
        part.requires_grad_(True)
    elif mode == "lora":
        assert lora is not None  # config/rules.py
        add_lora(part, lora, targets, name=name)


def linear_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers inside the blocks of a model, without those of its embeddings and its output."""
    linear = (name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D))
    return sorted({name.rpartition(".")[2] for name in linear if any(part.isdigit() for part in name.split("."))})


def add_lora(part: nn.Module, lora: Lora, targets: list[str], *, name: str) -> None:
    """Add LoRA to the layers of a part whose names end with `targets`, and make only LoRA trainable."""
    if name == "vision" and set(targets) & set(PARTS):  # of timm's fused layer
        split_qkv(part)
    layers = [layer for layer, _ in part.named_modules()]
    unknown = [target for target in targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]
    if unknown:  # peft raises only if none of the targets exists
        raise UserError(
            f"{name}.lora_targets={targets}: no layer is called {' or '.join(unknown)}: give names of linear layers"
        )
    from peft import LoraConfig, inject_adapter_in_model  # with bitsandbytes and torch's compiler, which take seconds

    settings = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    try:
        inject_adapter_in_model(settings, part)
    except ValueError as error:
        raise UserError(f"{name}.lora_targets={targets}: {error}") from error
    for parameter_name, parameter in part.named_parameters():
        parameter.requires_grad_("lora_" in parameter_name)


def merge_lora(part: nn.Module) -> None:
    """Merge every LoRA layer of a model into the layer that it adapts, and replace it by that layer."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(part.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(safe_merge=True)  # raises for weights that are NaN or infinite
            part.set_submodule(name, layer.get_base_layer())
    join_qkv(part)


def sizes(model: ReportGenerator) -> list[PartSize]:
    """The total and trainable parameters of each part and of the whole model."""
    parts = []
    findings = () if model.findings is None else (("findings", "findings."),)
    for part, prefix in (("vision", "vision."), ("projector", "projector."), *findings, ("lm", "lm."), ("model", "")):
        parameters = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        parts.append(PartSize(part, sum(map(weight_count, parameters)), trainable))
    return parts


def size_table(parts: list[PartSize]) -> str:
    """The sizes as a table of text."""
    rows = [f"{'part':<10} {'total':>14} {'trainable':>14}  share"]
    for part in parts:
        share = part.trainable / part.total if part.total else 0.0
        rows.append(f"{part.part:<10} {part.total:>14,} {part.trainable:>14,}  {share:.2%}")
    return "\n".join(rows)
