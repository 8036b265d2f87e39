"""BatchNorm whose statistics move in training, for encoders that begin with random weights (vision.batch_norm)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional

from r2gen.errors import UserError
from r2gen.ranks import dist

# N images, C channels, ... positions

BatchNorm = nn.modules.batchnorm._BatchNorm


class MovingBatchNorm(nn.SyncBatchNorm):
    """BatchNorm over the images of a micro-batch on all ranks. Its statistics are in fp32, also in a bf16 model.

    They move only within `moving`: a layer whose activations are computed again in the backward pass, to save memory,
    sees the same images twice.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor
    process_group = None
    moves = False  # set by `moving`

    def forward(self, x_NC: torch.Tensor) -> torch.Tensor:
        if self.moves or not self.training:
            return self._normalised(x_NC)
        # Copies move instead. Without any statistics, other tensors would be saved for the backward pass than before.
        statistics = self._buffers
        self._buffers = {name: tensor.clone() for name, tensor in self.named_buffers(recurse=False)}
        try:
            return self._normalised(x_NC)
        finally:
            self._buffers = statistics

    def _normalised(self, x_NC: torch.Tensor) -> torch.Tensor:
        if self.training and dist.world() > 1:
            return super().forward(x_NC) if x_NC.is_cuda else self._over_ranks(x_NC)
        if self.training:
            self.num_batches_tracked.add_(1)
        weight, bias = self.weight.float(), self.bias.float()
        means, variances, momentum = self.running_mean, self.running_var, self.momentum or 0.0
        return functional.batch_norm(x_NC, means, variances, weight, bias, self.training, momentum, self.eps)

    def _over_ranks(self, x_NC: torch.Tensor) -> torch.Tensor:
        """As torch's SyncBatchNorm, which has no implementation for CPUs."""
        axes, shape = [0, *range(2, x_NC.ndim)], [1, -1, *[1] * (x_NC.ndim - 2)]
        exact_NC = x_NC.float()
        count = dist.sum_over_ranks(torch.tensor(float(exact_NC.numel() // exact_NC.shape[1])))
        mean_C = dist.sum_with_gradient(exact_NC.sum(axes)) / count
        centred_NC = exact_NC - mean_C.view(shape)
        var_C = dist.sum_with_gradient(centred_NC.square().sum(axes)) / count
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C.detach(), self.momentum or 0.0)
        self.running_var.lerp_(var_C.detach() * count / (count - 1), self.momentum or 0.0)
        scale_C = (var_C + self.eps).rsqrt() * self.weight.float()
        return (centred_NC * scale_C.view(shape) + self.bias.float().view(shape)).to(x_NC.dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "MovingBatchNorm":
        """As nn.Module's, which converts and moves all tensors, but the statistics stay in fp32."""
        exact = {"running_mean": self.running_mean, "running_var": self.running_var}
        super()._apply(fn, recurse)
        for name, statistic in exact.items():
            setattr(self, name, statistic.to(getattr(self, name).device))
        return self


class MovingBatchNormAct(MovingBatchNorm):
    """timm's BatchNorm with an activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x_NC: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.act(self.drop(super().forward(x_NC)))
        return activated


REPLACED: dict[type[nn.Module], type[MovingBatchNorm]] = {
    nn.BatchNorm1d: MovingBatchNorm,
    nn.BatchNorm2d: MovingBatchNorm,
    BatchNormAct2d: MovingBatchNormAct,
}


def let_statistics_move(backbone: nn.Module) -> int:
    """Make every BatchNorm of a backbone a MovingBatchNorm, with the same names of tensors; returns their number."""
    layers = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, BatchNorm)}
    for name, layer in layers.items():
        parts = (layer.weight, layer.running_mean, layer.momentum)
        if type(layer) not in REPLACED or any(part is None for part in parts):
            raise UserError(
                f"vision.batch_norm: {name} of this encoder is a {type(layer).__name__} whose statistics cannot move "
                "here. Use vision.batch_norm=frozen."
            )
        layer.__class__ = REPLACED[type(layer)]
    return len(layers)


@contextmanager
def moving(module: nn.Module) -> Iterator[None]:
    """Within this context the statistics move with every forward pass in training."""
    layers = [layer for layer in module.modules() if isinstance(layer, MovingBatchNorm)]
    for layer in layers:
        layer.moves = True
    try:
        yield
    finally:
        for layer in layers:
            layer.moves = False


def freeze_statistics(module: nn.Module) -> None:
    """Put every BatchNorm whose statistics do not move into eval()."""
    for layer in module.modules():
        if isinstance(layer, BatchNorm) and not isinstance(layer, MovingBatchNorm):
            layer.eval()


def moving_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """The statistics that move in training, by name. Checkpoints have them besides the trainable weights."""
    return {
        f"{name}.{key}": statistic
        for name, layer in model.named_modules()
        if isinstance(layer, MovingBatchNorm)
        for key, statistic in layer.named_buffers(recurse=False)
    }
