"""Precision and device of a report generator, and a check of its weights."""

import torch

from r2gen.errors import UserError
from r2gen.lm.quantize import is_quantised
from r2gen.model.report_generator import ReportGenerator


def check_finite(model: ReportGenerator) -> None:
    """Raise UserError naming a weight that is NaN or infinite: it would train nothing, and still write reports.

    Checking min and max is enough, since NaN propagates; it takes 1 s for 7 billion weights and copies none.
    """
    for name, parameter in model.named_parameters():
        plain = not is_quantised(parameter) and not parameter.is_meta and parameter.numel() > 0
        if plain and not torch.stack(parameter.detach().aminmax()).isfinite().all():
            option = f"{name.partition('.')[0]}.path"
            raise UserError(f"{option}: {name} holds NaN or infinite values: fetch these weights again")


def to_bf16(model: ReportGenerator) -> None:
    """Convert the model to bf16; of the language model its parameters only.

    Rotary frequencies are buffers, and rounding them would shift every position.
    """
    model.vision.to(torch.bfloat16)
    model.projector.to(torch.bfloat16)  # type: ignore[attr-defined]
    if model.findings is not None:
        model.findings.to(torch.bfloat16)
    for parameter in model.lm.model.parameters():
        if not is_quantised(parameter):
            parameter.data = parameter.data.to(torch.bfloat16)


def trained_to_fp32(model: ReportGenerator) -> None:
    """Convert what trains in the language model to fp32: LoRA has the dtype of the weights that it adapts."""
    for parameter in model.lm.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def place(model: ReportGenerator, device: torch.device, *, spread: bool) -> ReportGenerator:
    """The model on the device; a language model that is spread over several GPUs stays where it is."""
    if not spread:
        return model.to(device)
    for part in model.children():
        if part is not model.lm:
            part.to(device)
    for name, buffer in model.named_buffers(recurse=False):
        model.register_buffer(name, buffer.to(device), persistent=False)
    return model
