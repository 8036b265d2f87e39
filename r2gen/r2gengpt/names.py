"""The names of R2GenGPT's tensors, and those of our model for them."""

import re
from collections.abc import Mapping

import torch

from r2gen.errors import UserError
from r2gen.vision.swin_names import DERIVED, fused, refuse_difference, split_shapes, timm_name, transformers_name

PARTS = {"llama_proj.": "projector.linear.", "layer_norm.": "projector.norm."}
VISION, PEFT = "visual_encoder.", "base_model.model."
OURS = "vision.backbone."
LORA = re.compile(r"\.lora_[AB]\.default\.weight$")
WITHOUT_ADAPTER = re.compile(r"(\.lora_[AB])(?=\.weight$)")  # as peft writes an adapter by itself


def mode_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """shallow, delta or deep: the checkpoint has no tensor of the encoder, LoRA of it, or all of it."""
    encoder = [name for name in tensors if name.startswith(VISION) and not DERIVED.search(name)]
    if not encoder:
        return "shallow"
    return "delta" if any(LORA.search(our_name(name) or "") for name in encoder) else "deep"


def lora_layers(tensors: Mapping[str, torch.Tensor]) -> tuple[list[str], int]:
    """The layers of our encoder that LoRA adapts, by the last part of their name (q, v), and the rank of LoRA."""
    layers, ranks = set(), set()
    for name, tensor in tensors.items():
        ours = our_name(name)
        if ours is None or not LORA.search(ours):
            continue
        layers.add(LORA.sub("", ours).rpartition(".")[2])
        if ".lora_A." in ours:
            ranks.add(int(tensor.shape[0]))
    if len(ranks) != 1:
        raise UserError(
            f"checkpoint: its LoRA layers have the ranks {sorted(ranks)}, but only one rank for all is supported"
        )
    return sorted(layers), ranks.pop()


def our_name(name: str) -> str | None:
    """The parameter of our model for a tensor of R2GenGPT; None if there is none."""
    for theirs, ours in PARTS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    if not name.startswith(VISION):
        return None
    timm = timm_name(name.removeprefix(VISION).removeprefix(PEFT))
    return None if timm is None else OURS + WITHOUT_ADAPTER.sub(r"\1.default", timm)


def original_name(name: str) -> str:
    """The inverse of our_name, for messages."""
    for theirs, ours in PARTS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    swin = transformers_name(name.removeprefix(OURS))
    if swin is None:
        return name
    return VISION + (PEFT if LORA.search(name) else "") + swin


def our_tensors(tensors: Mapping[str, torch.Tensor], trainable: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors under the names of the trainable parameters of our model.

    Raises UserError with R2GenGPT's names of tensors that are missing, left over or of another shape.
    """
    renamed: dict[str, torch.Tensor] = {}
    left_over = []
    expected = split_shapes(trainable)
    for name, tensor in tensors.items():
        ours = our_name(name)
        if ours in expected and ours not in renamed:
            renamed[ours] = tensor
        elif not DERIVED.search(name):
            left_over.append(name)
    missing = [original_name(name) for name in expected.keys() - renamed.keys()]
    refuse_difference("the checkpoint", missing=missing, left_over=left_over)
    for name, shape in expected.items():
        if list(renamed[name].shape) != shape:
            raise UserError(
                f"the checkpoint's {original_name(name)} is {list(renamed[name].shape)}, the weights at vision.path "
                f"and lm.path need {shape}. Pass the weights of its training"
            )
    return fused(renamed)
