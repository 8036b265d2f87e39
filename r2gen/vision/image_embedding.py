"""A learnt embedding of what is known about an image: its position, and how old it is if it is of a prior study."""

import torch
from torch import nn

from r2gen.data.collate import moved
from r2gen.data.context import AGES, PLACES

# B batch, V views, D encoder width


class ImageEmbedding(nn.Module):
    """The sum of an embedding of the position and one of the age, which are zero before training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(len(PLACES) + AGES, dim)
        nn.init.zeros_(self.rows.weight)

    def forward(self, about_BV2: torch.Tensor) -> torch.Tensor:
        """[B, V, D] from the numbers of position and age (data/context.py), on the CPU."""
        rows_BV2 = moved(about_BV2 + torch.tensor([0, len(PLACES)]), self.rows.weight.device)
        embedded_BVD: torch.Tensor = self.rows(rows_BV2).sum(dim=2)
        return embedded_BVD
