"""Findings in the prompt: after the images, the language model reads which findings they show."""

import math

import torch
from torch import nn

from r2gen.errors import UserError

# B batch, Q features of a study, C findings, D encoder width, E language-model width
SCALE = 0.02  # of the embeddings before training, as those of words have it


class FindingsPrompt(nn.Module):
    """For each finding, an embedding that says present and one that says absent, as PromptMRG's tokens (Jin et al.,
    AAAI 2024).

    In training the findings are those of the training report. Otherwise a linear layer on the mean of the image
    features gives each a probability, and one is present from `threshold` on.
    """

    def __init__(self, *, dim: int, lm_dim: int, findings: int, threshold: float) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise UserError(f"objective.threshold={threshold}: give a probability between 0 and 1")
        self.predict = nn.Linear(dim, findings)
        self.states = nn.Parameter(torch.randn(2, findings, lm_dim) * SCALE)  # absent, present
        self.least_logit = math.log(threshold / (1 - threshold))

    def forward(
        self, features_BQD: torch.Tensor, real_BQ: torch.Tensor, stated_BC: torch.Tensor | None
    ) -> torch.Tensor:
        """[B, C, E]: the state of each finding, as `stated_BC` (booleans) says, or else as predicted."""
        if stated_BC is None:
            pooled_BD = pooled(features_BQD, real_BQ).to(self.predict.weight.dtype)
            stated_BC = self.predict(pooled_BD).float() > self.least_logit
        return torch.where(stated_BC[:, :, None], self.states[1], self.states[0])


def pooled(features_BQD: torch.Tensor, real_BQ: torch.Tensor) -> torch.Tensor:
    """The mean [B, D] over the real features of each study, in fp32."""
    weights_BQ1 = real_BQ.to(features_BQD.device, torch.float32)[:, :, None]
    mean_BD: torch.Tensor = (features_BQD.float() * weights_BQ1).sum(dim=1) / weights_BQ1.sum(dim=1)
    return mean_BD
