"""What trains: the one place that sets requires_grad, and the table of what it chose."""

from dataclasses import dataclass

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from r2gen.errors import UserError
from r2gen.lm.quantize import is_quantised, weight_count
from r2gen.model.qkv import PARTS, join_qkv, split_qkv
from r2gen.model.report_generator import ReportGenerator


@dataclass(frozen=True)
class Lora:
    """LoRA (Hu et al., 2021) of rank r, scaled by alpha / r."""

    r: int
    alpha: int
    dropout: float


@dataclass(frozen=True)
class PartSize:
    """Parameters of one part of the model."""

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
    lm_lora_targets: list[str],
    lm_is_random: bool,
) -> None:
    """Freeze everything, then free what `tune` and `tune/lm` name: frozen, lora or full; lm=auto frees random weights.

    The projector and the embedding of view places start at random and always train. LoRA layers are put into the
    model in place. Weights on a frozen part are left untouched, byte for byte.
    """
    model.requires_grad_(False)
    model.projector.requires_grad_(True)  # type: ignore[attr-defined]
    _free(model.vision.backbone, vision, vision_lora, model.vision.lora_targets, "vision")
    model.vision.join.requires_grad_(True)
    lm_mode = ("full" if lm_is_random else "frozen") if lm == "auto" else lm
    _free(model.lm.model, lm_mode, lm_lora, lm_lora_targets, "lm")


def _free(part: nn.Module, mode: str, lora: Lora | None, targets: list[str], name: str) -> None:
    if mode == "full":
        if any(is_quantised(parameter) for parameter in part.parameters()):
            raise UserError(f"tune of {name} is full, but its checkpoint is quantised: use lora or frozen")
        part.requires_grad_(True)
    elif mode == "lora":
        if lora is None:
            raise UserError(f"tune.{name} is lora without its rank: choose the option that brings it")
        if name == "vision" and set(targets) & set(PARTS):  # query, key or value of timm's fused layer
            split_qkv(part)
        layers = [layer for layer, _ in part.named_modules()]
        unknown = [target for target in targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]
        if unknown:  # peft says so only where it finds none of them
            raise UserError(f"{name}.lora_targets={targets}: no layer is called {' or '.join(unknown)}")
        settings = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
        try:
            inject_adapter_in_model(settings, part)
        except ValueError as error:
            raise UserError(f"{name}.lora_targets={targets}: {error}") from error
        for parameter_name, parameter in part.named_parameters():
            parameter.requires_grad_("lora_" in parameter_name)


def merge_lora(part: nn.Module) -> None:
    """Add every LoRA layer of a model to the layer it adapts, and leave that one in its place."""
    for name, layer in list(part.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(safe_merge=True)  # refuses weights that are not finite
            part.set_submodule(name, layer.get_base_layer())
    join_qkv(part)


def sizes(model: ReportGenerator) -> list[PartSize]:
    """Total and trainable parameters of each part and of the whole."""
    parts = []
    for part, prefix in (("vision", "vision."), ("projector", "projector."), ("lm", "lm."), ("model", "")):
        parameters = [parameter for name, parameter in model.named_parameters() if name.startswith(prefix)]
        parts.append(
            PartSize(
                part, sum(weight_count(p) for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
            )
        )
    return parts


def size_table(parts: list[PartSize]) -> str:
    """part / total / trainable, as text."""
    rows = [f"{'part':<10} {'total':>14} {'trainable':>14}  share"]
    for part in parts:
        share = part.trainable / part.total if part.total else 0.0
        rows.append(f"{part.part:<10} {part.total:>14,} {part.trainable:>14,}  {share:.2%}")
    return "\n".join(rows)
