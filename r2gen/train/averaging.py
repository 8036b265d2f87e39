"""A moving average of the trained weights (trainer.ema), which is validated, tested and exported in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from r2gen.errors import UserError
from r2gen.train.engine import Engine, local_masters, set_masters, trainable_tensors, whole_weights
from r2gen.vision.batch_norm import moving_statistics


class WeightAverage:
    """The exponential moving average of the fp32 masters, of which each rank has its own part, on their device.

    Training continues with the weights themselves. Statistics of BatchNorm that move are averaged as well, as in timm's
    ModelEmaV3, and have a copy on every rank; num_batches_tracked is not a statistic, and is copied.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        self.engine, self.decay = engine, decay
        self.own = [master.detach().clone() for master in local_masters(engine)]
        self.statistics = {name: tensor.clone() for name, tensor in moving_statistics(engine.module).items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 1."""
        new = 1 - decay_at(step, self.decay)
        torch._foreach_lerp_(self.own, local_masters(self.engine), new)
        if not self.statistics:
            return
        moved = moving_statistics(self.engine.module)
        averaged = [name for name, statistic in moved.items() if statistic.is_floating_point()]
        copied = [name for name in moved if name not in averaged]
        torch._foreach_lerp_([self.statistics[name] for name in averaged], [moved[name] for name in averaged], new)
        torch._foreach_copy_([self.statistics[name] for name in copied], [moved[name] for name in copied])

    def tensors(self) -> dict[str, torch.Tensor]:
        """The average by name, whole, in fp32 on the CPU, with that of the statistics. All ranks must call it."""
        statistics = {name: statistic.cpu().clone() for name, statistic in self.statistics.items()}
        with self._restored_masters() as masters:
            _copy(self.own, masters)
            return trainable_tensors(self.engine) | statistics

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take an average that `tensors` gave. All ranks must call it."""
        names = [name for name, parameter in self.engine.module.named_parameters() if parameter.requires_grad]
        if missing := [name for name in (*names, *self.statistics) if name not in tensors]:
            raise UserError(f"the checkpoint is of another model: missing {missing[:5]}")
        with self._restored_masters() as masters:
            if isinstance(self.engine.optimizer, torch.optim.Optimizer):  # the module's weights are the masters
                parameters = dict(self.engine.module.named_parameters())
                _copy([tensors[name] for name in names], [parameters[name] for name in names])
            set_masters(self.engine, tensors)
            _copy(masters, self.own)
        _copy([tensors[name] for name in self.statistics], list(self.statistics.values()))

    @contextmanager
    def in_module(self) -> Iterator[None]:
        """Within this context every rank has all weights of the module, with the average. All ranks must enter it."""
        average = self.tensors()
        with whole_weights(self.engine), torch.no_grad():
            replaced = moving_statistics(self.engine.module)
            replaced |= {name: p for name, p in self.engine.module.named_parameters() if p.requires_grad}
            before = [tensor.detach().clone() for tensor in replaced.values()]
            try:
                _copy([average[name] for name in replaced], list(replaced.values()))
                yield
            finally:
                _copy(before, list(replaced.values()))

    @contextmanager
    def _restored_masters(self) -> Iterator[list[torch.Tensor]]:
        """This rank's masters, which have their values again at the end."""
        masters = local_masters(self.engine)
        before = [master.detach().clone() for master in masters]
        try:
            yield masters
        finally:
            _copy(before, masters)


def decay_at(step: int, decay: float) -> float:
    """The decay of optimiser step `step`, counted from 1: smaller at first, so that the first weights are forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def _copy(sources: list[torch.Tensor], targets: list[torch.Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
