"""The optimiser and the learning rate of each step."""

import math

import torch
from torch import nn


def adamw(
    model: nn.Module, *, learning_rate: float, betas: tuple[float, float], weight_decay: float, decay_all: bool = False
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and other vectors are decayed only with `decay_all`."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": weight_decay if decay_all else 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)


def rate_at(
    step: int, *, total: int, peak: float, floor: float, warmup: int, schedule: str, epoch_steps: float
) -> float:
    """The learning rate of optimiser step `step` (from 0): linear warm-up, then cosine to `floor` or constant.

    `epoch_steps` is the number of steps per epoch, which need not be whole: cosine_per_epoch has one rate per epoch,
    like R2GenGPT's CosineAnnealingLR, which Lightning steps once per epoch.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    if schedule == "cosine_per_epoch":
        epochs = max(1, round(total / epoch_steps))
        progress = min(math.floor(round(step / epoch_steps, 9)), epochs) / epochs
    else:
        progress = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
