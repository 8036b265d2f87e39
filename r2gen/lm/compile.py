"""torch.compile for the layers of a language model, in training or while a context lasts in decoding."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.errors import UserError

COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: PreTrainedModel) -> None:
    """Compile the forward method of each layer, in the first step and for any length; all layers share the code.

    The compiled code runs only where gradients are recorded, since the input of generation grows by a token per call.
    Raises UserError if the CPU has no compiler or the model no layers to compile.
    """
    if next(model.parameters()).device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise UserError(
            "lm.compile=true: compiling for the CPU needs a C++ compiler (g++), and there is none: install one, or "
            "use lm.compile=false"
        )
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("lm.compile=true: this language model has no layers that can be compiled: use lm.compile=false")
    for layer in layers:
        layer.forward = _compiled_in_training(layer.forward)


def _compiled_in_training(plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(plain, dynamic=True)

    def forward(*arguments: Any, **options: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*arguments, **options)

    return forward


@contextmanager
def compiled_layers(model: PreTrainedModel) -> Iterator[None]:
    """Compile the forward method of each layer while the context lasts, for each shape of its input.

    All layers share the code.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = torch.compile(type(layer).forward.__get__(layer), dynamic=False)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward
