"""Frozen linear layers with the same input as one matrix product: queries, keys and values; gate and up.

One product of three times the rows keeps a GPU busier than three, and fp8 quantises its input once. Only layers that do
not train are fused, after a model is complete; the weights are those of the layers, row by row.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from r2gen.lm.fp8 import Fp8Linear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # in the order in which a layer calls them

# K input features, O output features


class _Pending:
    """The outputs that the next layers of a group return."""

    def __init__(self) -> None:
        self.outputs: tuple[torch.Tensor, ...] = ()


class FirstOfGroup(nn.Module):
    """Computes the outputs of all layers of a group, and returns its own."""

    def __init__(self, joint: nn.Module, sizes: Sequence[int], pending: _Pending) -> None:
        super().__init__()
        self.joint, self.sizes, self.pending = joint, list(sizes), pending

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        outputs = self.joint(input).split(self.sizes, dim=-1)
        self.pending.outputs = outputs[1:]
        first: torch.Tensor = outputs[0]
        return first


class NextOfGroup(nn.Module):
    """Returns the output that the first layer of its group has computed."""

    def __init__(self, pending: _Pending) -> None:
        super().__init__()
        self.pending = pending

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output, *rest = self.pending.outputs
        self.pending.outputs = tuple(rest)
        return output


def fuse_frozen(model: PreTrainedModel) -> int:
    """Fuse the groups of frozen plain or fp8 layers of a model in place; returns their number."""
    groups = list(_groups(model))
    for parent, names in groups:
        layers = [parent.get_submodule(name) for name in names]
        sizes = [layer.get_parameter("weight").shape[0] for layer in layers]
        pending = _Pending()
        setattr(parent, names[0], FirstOfGroup(_joint(layers), sizes, pending))
        for name in names[1:]:
            setattr(parent, name, NextOfGroup(pending))
    return len(groups)


def _groups(model: PreTrainedModel) -> Iterator[tuple[nn.Module, tuple[str, ...]]]:
    for parent in model.modules():
        own = dict(parent.named_children())
        for names in TOGETHER:
            layers = [own.get(name) for name in names]
            first = layers[0]
            if (
                type(first) in (nn.Linear, Fp8Linear)
                and all(type(layer) is type(first) for layer in layers)
                and not any(parameter.requires_grad for layer in layers if layer for parameter in layer.parameters())
                and len({(layer.in_features, layer.bias is None) for layer in layers}) == 1  # type: ignore[union-attr]
            ):
                yield parent, names


def _joint(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer with the rows of several; each of those is left without weights, so that no more memory is used."""
    joint = layers[0]
    for name in ("weight", "bias", "scale"):
        tensors = [getattr(layer, name, None) for layer in layers]
        if tensors[0] is None:
            continue
        together = torch.cat([tensor.detach() for tensor in tensors])  # type: ignore[union-attr]
        for layer in layers:
            setattr(layer, name, None)
        if name == "scale":
            joint.scale = together
        else:
            setattr(joint, name, nn.Parameter(together, requires_grad=False))
    joint.out_features = sum(layer.out_features for layer in layers)  # type: ignore[misc,assignment]
    return joint
