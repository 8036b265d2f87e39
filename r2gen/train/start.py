"""trainer.start: a training that starts from the best weights of another run."""

from pathlib import Path

import torch
from torch import nn

from r2gen.errors import UserError
from r2gen.train.checkpoint import WEIGHTS, Checkpoints, read_weights, without_head


def load_start(model: nn.Module, run_dir: str) -> str:
    """Copy the best weights of a run into the model; returns a line about them.

    Every tensor must be one of this model, trained here or not; weights that the other run did not train stay as they
    are. Raises UserError if a tensor does not match.
    """
    checkpoints = Checkpoints(Path(run_dir), keep=1)
    file = checkpoints.best() / WEIGHTS
    tensors = without_head(read_weights(file))
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            what = f"the shape {list(own[name].shape)}" if name in own else "nothing of this name"
            raise UserError(
                f"trainer.start={run_dir}: {name} has the shape {list(tensor.shape)}, and this model has {what}. Use "
                "the same lm, vision, projector and LoRA as that run"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    initial = sum(name not in tensors for name in trained)
    rest = f"; {initial:,} of {len(trained):,} trained tensors keep their initial weights" if initial else ""
    return f"starting from {run_dir}, {checkpoints.best_digest()}{rest}"
