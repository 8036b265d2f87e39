"""timm's fused query-key-value layer as three layers, so that LoRA can adapt query and value without key."""

import torch
from torch import nn

PARTS = ("q", "k", "v")
# T tokens, D input width, Q width of query, key and value each


class SplitQkv(nn.Module):
    """Computes the output of `qkv`, one linear layer of 3 x Q rows, by one linear layer each for q, k and v."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        width = qkv.out_features // 3
        self.q, self.k, self.v = (_rows(qkv, first, width) for first in range(0, 3 * width, width))

    def forward(self, x_TD: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.q(x_TD), self.k(x_TD), self.v(x_TD)], dim=-1)


def _rows(layer: nn.Linear, first: int, count: int) -> nn.Linear:
    part = nn.Linear(layer.in_features, count, bias=layer.bias is not None, device="meta")
    part.weight = nn.Parameter(layer.weight.detach()[first : first + count].clone())
    if layer.bias is not None:
        part.bias = nn.Parameter(layer.bias.detach()[first : first + count].clone())
    return part


def split_qkv(part: nn.Module) -> None:
    """Replace every fused `qkv` layer of a timm model, in place. timm's blocks use only the output of this layer."""
    for module in list(part.modules()):
        layer = module.get_submodule("qkv") if "qkv" in dict(module.named_children()) else None
        if type(layer) is nn.Linear:
            module.add_module("qkv", SplitQkv(layer))


def join_qkv(part: nn.Module) -> None:
    """Undo split_qkv, so that the model has timm's layers and names again."""
    for module in list(part.modules()):
        layer = dict(module.named_children()).get("qkv")
        if isinstance(layer, SplitQkv):
            parts = (layer.q, layer.k, layer.v)
            joined = nn.Linear(layer.q.in_features, 3 * layer.q.out_features, bias=layer.q.bias is not None)
            joined.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
            if layer.q.bias is not None:
                joined.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
            module.add_module("qkv", joined)
