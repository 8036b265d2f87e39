"""torch.compile for the layers of a language model, in training or while a context lasts in decoding."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.errors import UserError

COMPILERS = ("g++", "clang++", "c++")
SHAPES = 64  # compiled in one process; torch's own limit is 8, beyond which it silently compiles no more


def compile_layers(model: PreTrainedModel) -> None:
    """Compile the forward method of each layer, in the first step and for any length.

    All layers share one program, but the last one (lm/last_layer.py). Compiled code runs only where gradients are
    recorded, since the input of generation grows by a token per call.
    Raises UserError if the CPU has no compiler or the model no layers to compile.
    """
    if next(model.parameters()).device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise UserError(
            "lm.compile=true: compiling for the CPU needs a C++ compiler (g++), and there is none: install one, or "
            "use lm.compile=false"
        )
    layers = layers_of(model)
    if not layers:
        raise UserError("lm.compile=true: this language model has no layers that can be compiled: use lm.compile=false")
    torch._dynamo.config.recompile_limit = SHAPES  # programs of decoding count too
    for layer in layers:
        layer.forward = _compiled_in_training(layer.forward)


def has_layers(model: PreTrainedModel) -> bool:
    """Whether a model has layers that can be compiled."""
    return bool(layers_of(model))


def layers_of(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers of the language model in a module."""
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def _compiled_in_training(plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(plain, dynamic=True)

    def forward(*arguments: Any, **options: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*arguments, **options)

    return forward


class CompiledLayers:
    """The compiled forward methods of a model's layers, for each shape of their input; all layers share the code."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.forwards = [
            (layer, torch.compile(type(layer).forward.__get__(layer), dynamic=False)) for layer in layers_of(model)
        ]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the layers use them while the context lasts."""
        with ExitStack() as stack:
            for layer, forward in self.forwards:
                stack.enter_context(forward_of(layer, forward))
            stack.enter_context(torch._dynamo.config.patch(recompile_limit=SHAPES))
            yield


@contextmanager
def forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else while the context lasts."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
