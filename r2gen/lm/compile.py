"""torch.compile for the layers of a language model in training; reports are written by the layers as they are."""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.errors import UserError

COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: PreTrainedModel) -> None:
    """Compile each layer's forward, for any length: the layers share one piece of code, compiled in the first step.

    Only where gradients are recorded: generation grows by a token a call. Raises UserError where the CPU has no
    compiler, or the model no layers to compile.
    """
    if next(model.parameters()).device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise UserError(
            "lm.compile=true needs a C++ compiler on the CPU (g++), and there is none: install one, or use "
            "lm.compile=false"
        )
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("lm.compile=true: this language model has no layers that can be compiled: use lm.compile=false")
    for layer in layers:
        layer.forward = _in_training(layer.forward)


def _in_training(plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(plain, dynamic=True)

    def forward(*arguments: Any, **options: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*arguments, **options)

    return forward
