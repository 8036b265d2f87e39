"""Joining the features of a study's images: by their mean, or one after another."""

import torch
from torch import nn

from r2gen.data.collate import moved
from r2gen.errors import UserError

# B batch, V views, P patches of an image, Q features of a study, D encoder width


class MeanViews(nn.Module):
    """Patch features averaged over the existing views (R2GenGPT)."""

    def forward(self, features_BVPD: torch.Tensor, views_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, P, D] and a mask [B, P] without padding, on the CPU like views_BV."""
        weight_BV = moved((views_BV / views_BV.sum(dim=1, keepdim=True)).to(features_BVPD.dtype), features_BVPD.device)
        features_BPD = torch.einsum("bvpd,bv->bpd", features_BVPD, weight_BV)
        return features_BPD, views_BV.new_ones(features_BPD.shape[:2])


class ConcatViews(nn.Module):
    """All views one after another, each with a learnt position embedding; missing views are masked."""

    def __init__(self, max_views: int, dim: int) -> None:
        super().__init__()
        self.max_views = max_views
        self.place_VD = nn.Parameter(torch.randn(max_views, dim) * 0.02)  # checkpoints contain this name

    def forward(self, features_BVPD: torch.Tensor, views_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, V * P, D] and a mask [B, V * P], on the CPU like views_BV, that excludes missing views."""
        views, patches = features_BVPD.shape[1:3]
        if views > self.max_views:
            raise UserError(f"vision.max_views={self.max_views}: a study has {views} images. Raise it.")
        placed_BVPD = features_BVPD + self.place_VD[:views, None, :]
        return placed_BVPD.flatten(1, 2), views_BV.repeat_interleave(patches, dim=1)
