"""The optimiser and the learning rate of each step."""

import math
from collections.abc import Mapping

import torch
from torch import nn

SCALE = "scale"  # of a parameter group: what the learning rate is multiplied by


def adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    decay_all: bool = False,
    scales: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and other vectors are decayed only with `decay_all`.

    `scales` multiplies the learning rate of a part of the model (vision, projector, lm).
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    scale_of = {parameter: (scales or {}).get(name.partition(".")[0], 1.0) for name, parameter in trainable}
    groups = [
        {"params": [p for p in scale_of if scale_of[p] == scale and (p.ndim > 1) == is_matrix], SCALE: scale}
        | {"weight_decay": weight_decay if is_matrix or decay_all else 0.0}
        for scale in dict.fromkeys(scale_of.values())
        for is_matrix in (True, False)
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
    """Set the learning rate of each parameter group, multiplied by the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)
