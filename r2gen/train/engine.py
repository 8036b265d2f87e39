"""The DeepSpeed engine around a model: what R2Gen tells it, and the traps it steps around."""

import logging
import os
from typing import Any

import torch

# DeepSpeed reads this when it is imported; without a GPU it would look for one and warn.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__
from deepspeed.utils import safe_get_full_fp32_param
from deepspeed.utils.logging import logger as deepspeed_log
from torch import nn

from r2gen import dist


def start_engine(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, batch_size: int, micro_batch_size: int,
    gradient_clipping: float, bf16: bool, options: dict[str, Any],
) -> deepspeed.DeepSpeedEngine:  # fmt: skip
    """An engine that accumulates batch_size / (micro_batch_size * ranks) micro-batches a step.

    `options` is the user's trainer.deepspeed; the keys set here are refused in it by config.check.
    """
    deepspeed_log.setLevel(logging.WARNING)
    # On the CPU DeepSpeed would compile this for half a minute, and raise without ninja or g++; gloo does its work.
    __compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        **options,
        "train_batch_size": batch_size,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": batch_size // (micro_batch_size * dist.world()),
        "gradient_clipping": gradient_clipping,  # always named: absent means 1.0
        "bf16": {"enabled": bf16},
        # The optimiser is torch's own object: DeepSpeed's dictionary would compile one for 35 s.
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    return engine


def backward(engine: deepspeed.DeepSpeedEngine, loss_sum: torch.Tensor, target_tokens: torch.Tensor) -> None:
    """Add a micro-batch's gradient of loss_sum / target_tokens, `target_tokens` counted over the whole step.

    DeepSpeed divides by the accumulation steps (switched off) and averages over ranks (multiplied back), so that the
    step's gradient is that of one large batch, however it was cut.
    """
    engine.backward(loss_sum * (dist.world() / target_tokens), scale_wrt_gas=False)


def trainable_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The fp32 masters of what trains, whole, on the CPU. Every rank must call it: sharded ones are gathered."""
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            master = safe_get_full_fp32_param(parameter) if hasattr(parameter, "_hp_mapping") else parameter
            tensors[name] = master.detach().to("cpu", torch.float32).contiguous().clone()
    return tensors
