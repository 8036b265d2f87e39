"""Projectors from the width of the encoder to the width of the language model."""

import torch
from torch import nn

from r2gen.errors import UserError

WIDEST = 1_000_000

# Q image features, D encoder width, E language-model width


class LinearProjector(nn.Module):
    """A linear layer and LayerNorm, as in R2GenGPT (`llama_proj` and `layer_norm`)."""

    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, features_BQD: torch.Tensor) -> torch.Tensor:
        projected_BQE: torch.Tensor = self.norm(self.linear(features_BQD))
        return projected_BQE


class MlpProjector(nn.Module):
    """The projector of LLaVA 1.5 (linear, GELU, linear), followed by LayerNorm."""

    def __init__(self, *, in_dim: int, out_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        if hidden_dim is not None and not 1 <= hidden_dim <= WIDEST:
            raise UserError(f"projector.hidden_dim={hidden_dim}: give a width of 1 to {WIDEST:,}, or null")
        hidden_dim = hidden_dim or out_dim
        self.layers = nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, features_BQD: torch.Tensor) -> torch.Tensor:
        projected_BQE: torch.Tensor = self.norm(self.layers(features_BQD))
        return projected_BQE
