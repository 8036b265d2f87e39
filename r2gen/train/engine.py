"""The DeepSpeed engine around a model: what R2Gen tells it, and the traps it steps around."""

import logging
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# DeepSpeed reads this when it is imported; without a GPU it would look for one and warn.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops import __compatible_ops__
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param, safe_set_local_fp32_param
from deepspeed.utils.logging import logger as deepspeed_log
from deepspeed.utils.tensor_fragment import fragment_address
from pydantic import ValidationError
from torch import nn

from r2gen.errors import UserError
from r2gen.lm.quantize import keep_in_place
from r2gen.ranks import dist
from r2gen.runs.phase import Phase, in_phase

ONLY_TENSORS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch.load then refuses code, whatever its caller asks for


@in_phase(Phase.TRAINING)
def start_engine(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    micro_batch_size: int,
    gradient_clipping: float,
    bf16: bool,
    options: dict[str, Any],
) -> deepspeed.DeepSpeedEngine:
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
    keep_in_place(model)
    try:
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"trainer.deepspeed: DeepSpeed does not take {where}: {first['msg']}") from error
    if isinstance(engine.optimizer, FP16_UnfusedOptimizer):  # bf16 under ZeRO 0
        # To allocate the moments it stepped on gradients of zero: weights decayed, and a step was counted, for nothing.
        engine.optimizer.optimizer.state.clear()
        engine.optimizer.refresh_fp32_params()
    return engine


def load_engine(engine: deepspeed.DeepSpeedEngine, folder: Path) -> bool:
    """Read DeepSpeed's own files of a checkpoint; False where they are not there.

    They are pickles by DeepSpeed's choice, which it would read in full. Here torch admits tensors, plain data and the
    three classes that DeepSpeed writes, so that a file from elsewhere can run no code. Raises pickle.UnpicklingError.
    """
    before = os.environ.get(ONLY_TENSORS)
    os.environ[ONLY_TENSORS] = "1"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            loaded, _ = engine.load_checkpoint(str(folder), tag="engine", load_module_strict=False)
    finally:
        if before is None:
            del os.environ[ONLY_TENSORS]
        else:
            os.environ[ONLY_TENSORS] = before
    return loaded is not None


def backward(engine: deepspeed.DeepSpeedEngine, loss_sum: torch.Tensor, target_tokens: torch.Tensor) -> None:
    """Add a micro-batch's gradient of loss_sum / target_tokens, `target_tokens` counted over the whole step.

    DeepSpeed divides by the accumulation steps (switched off) and averages over ranks (multiplied back), so that the
    step's gradient is that of one large batch, however it was cut.
    """
    engine.backward(loss_sum * (dist.world() / target_tokens), scale_wrt_gas=False)


def step(engine: deepspeed.DeepSpeedEngine) -> torch.Tensor:
    """Take the optimiser step; gives the norm of its gradient before clipping, over all ranks.

    Where a gradient is not finite, DeepSpeed leaves some steps out without a word: the norm is then not finite either.
    """
    # In fp32 under ZeRO 0 DeepSpeed keeps no norm, but the gradients are whole, and averaged in the last backward pass.
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    plain = isinstance(engine.optimizer, torch.optim.Optimizer)
    own_norm = torch.nn.utils.get_total_norm(gradients) if plain else None
    engine.step()
    norm = torch.as_tensor(engine.get_global_grad_norm() if own_norm is None else own_norm, device=engine.device)
    return norm.where(norm >= 0, torch.nan)  # DeepSpeed's -1 is an overflow


def peak_gib(device: torch.device) -> float:
    """The most memory this rank has held so far: of its GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def trainable_tensors(engine: deepspeed.DeepSpeedEngine) -> dict[str, torch.Tensor]:
    """The fp32 masters of what trains, whole, on the CPU. Every rank must call it: sharded ones are gathered."""
    own, tensors = _own_masters(engine), {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            master = (
                safe_get_full_fp32_param(parameter)
                if hasattr(parameter, "_hp_mapping") or is_sharded(parameter)
                else own.get(parameter, parameter)
            )
            tensors[name] = master.detach().to("cpu", torch.float32).contiguous().clone()
    return tensors


def set_masters(engine: deepspeed.DeepSpeedEngine, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the fp32 masters these values, where there are masters beside the module's own weights."""
    own = _own_masters(engine)
    for name, parameter in engine.module.named_parameters():
        if parameter in own:
            own[parameter].data.copy_(tensors[name])
        elif parameter.requires_grad and is_sharded(parameter):
            # Not safe_set_full_fp32_param: it runs over the end where the values do not divide by the ranks.
            own_values = parameter.ds_tensor.numel()
            flat = torch.nn.functional.pad(tensors[name].flatten(), (0, own_values * dist.world()))
            safe_set_local_fp32_param(parameter, flat[own_values * dist.rank() :][:own_values])
        elif parameter.requires_grad and hasattr(parameter, "_hp_mapping"):
            safe_set_full_fp32_param(parameter, tensors[name])


def is_sharded(parameter: torch.Tensor) -> bool:
    """Whether ZeRO 3 cuts this weight into a piece a rank."""
    return hasattr(parameter, "ds_id")


@contextmanager
def whole_weights(engine: deepspeed.DeepSpeedEngine, *, changed: bool = False) -> Iterator[None]:
    """While open, every rank has all weights of the module: to write reports, where ranks take other numbers of steps.

    Under ZeRO 0 to 2 they are whole anyway. Every rank must open it. With `changed` only what trains is whole, and may
    be changed, alike on all ranks.
    """
    if engine.zero_optimization_stage() < 3:
        yield
        return
    parameters = [parameter for parameter in engine.module.parameters() if parameter.requires_grad or not changed]
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if changed else None):
        # The hooks would gather and free the weights of each layer, with all ranks, in every forward pass.
        offload = engine.optimizer.parameter_offload
        offload.destroy()
        try:
            yield
        finally:
            offload.setup_zero_stage3_hooks()


def keep_whole(module: nn.Module) -> None:
    """After the end of an engine: every rank has all weights from now on. Every rank must call it."""
    sharded: list[Any] = [parameter for parameter in module.parameters() if is_sharded(parameter)]
    if sharded:
        sharded[0].all_gather(param_list=sharded)


def _own_masters(engine: deepspeed.DeepSpeedEngine) -> dict[nn.Parameter, torch.Tensor]:
    """The masters of bf16 under ZeRO 0, which DeepSpeed's safe_get_full_fp32_param knows nothing of."""
    optimizer = engine.optimizer
    if not isinstance(optimizer, FP16_UnfusedOptimizer):
        return {}
    groups = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
    return {weight: master for weights, masters in groups for weight, master in zip(weights, masters, strict=True)}
