"""trainer.start: a training that starts from the best weights of another run."""

from pathlib import Path

import torch
from torch import nn

from r2gen.errors import UserError
from r2gen.train.checkpoint import WEIGHTS, Checkpoints, read_weights, without_head


def load_start(model: nn.Module, run_dir: str) -> str:
    """Copy the best weights of a run into the model; returns their origin in a few words.

    Each of them must be trained here too, since a checkpoint has only what is trained. Weights that the other run did
    not train stay as they are. Raises UserError if a tensor does not match.
    """
    checkpoints = Checkpoints(Path(run_dir), keep=1)
    tensors = without_head(read_weights(checkpoints.best() / WEIGHTS))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {**trained, **dict(model.named_buffers())}
    frozen = [name for name in tensors if name not in own and name in dict(model.named_parameters())]
    if frozen:
        raise UserError(
            f"trainer.start={run_dir}: that run trained {frozen[0]} and others, which are frozen here and so would not "
            "be in the checkpoints of this run. Use the same tune and tune/lm as that run"
        )
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            what = f"the shape {list(own[name].shape)}" if name in own else "no tensor of this name"
            raise UserError(
                f"trainer.start={run_dir}: {name} has the shape {list(tensor.shape)}, and this model has {what}. Use "
                "the same lm, vision, projector, context, tune and tune/lm as that run"
            )
    heads = [name for name in trained if name not in tensors and name.rpartition(".")[0].endswith("lm_head")]
    if heads and any(name.endswith("embed_tokens.weight") for name in tensors):
        raise UserError(
            f"trainer.start={run_dir}: that run tied the output head to the embeddings. Use "
            "lm.architecture.tie_word_embeddings=true here too"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    initial = sum(name not in tensors for name in trained)
    rest = f"; {initial:,} of {len(trained):,} trained tensors keep their initial weights" if initial else ""
    return f"{run_dir}, {checkpoints.best_digest()}{rest}"
