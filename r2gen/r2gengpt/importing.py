"""task=import: make a run folder whose best checkpoint is that of R2GenGPT."""

from pathlib import Path

import torch

from r2gen.build import build_model
from r2gen.config.schema import Config
from r2gen.model.tune import size_table, sizes
from r2gen.r2gengpt.checkpoint import read_checkpoint
from r2gen.r2gengpt.names import mode_of, our_tensors
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.train.checkpoint import Checkpoints, TrainState

ENCODER = {
    "shallow": "no tensor of the encoder",
    "delta": "LoRA of the encoder, which is not merged",
    "deep": "the whole encoder",
}


def import_checkpoint(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Match every tensor with a parameter of the model by name and shape, and write them as its best checkpoint.

    Raises UserError naming tensors that are missing or left over; then no checkpoint is written.
    """
    if dist.is_first():
        original = read_checkpoint(Path(config.checkpoint or ""))
        model = build_model(config, bf16=False, device=torch.device("cpu"))
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        tensors = our_tensors(original.tensors, trainable)
        state = TrainState(step=original.step, epoch=original.epoch, validated_step=original.step)
        Checkpoints(config.folder, keep=1).write(tensors, state)
        print(
            f"{size_table(sizes(model))}\n\nimported all {len(original.tensors)} tensors of epoch {original.epoch}, "
            f"step {original.step}: the projector, and {ENCODER[mode_of(original.tensors)]}\nnow: python run.py "
            f"task=evaluate run_dir={config.run_dir} data.root=...",
            flush=True,
        )
    dist.barrier()
