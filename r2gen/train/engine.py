"""The DeepSpeed engine around a model: its configuration, and workarounds for DeepSpeed's defects."""

import logging
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

# DeepSpeed reads this when it is imported; without it, DeepSpeed searches for a GPU on a CPU machine and warns.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed import DeepSpeedEngine as Engine
from deepspeed.ops import __compatible_ops__
from deepspeed.runtime import engine as engine_module
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param, safe_set_local_fp32_param
from deepspeed.utils.logging import logger as deepspeed_log
from deepspeed.utils.tensor_fragment import fragment_address
from pydantic import ValidationError
from torch import nn

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.lm.compile import layers_of
from r2gen.lm.quantize import keep_in_place
from r2gen.ranks import dist
from r2gen.runs.phase import Phase, in_phase
from r2gen.train.divided_layers import DividedLayers, can_be_divided

# With this variable torch.load refuses code, even if its caller asks for code to be loaded.
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# Attributes of a model with ZeRO 3: the modules that DeepSpeed does not find, and the layers that are divided here.
HIDDEN, DIVIDED = "r2gen_hidden", "r2gen_divided"
LIVE = "stage3_max_live_parameters"  # the option that says how many weights may be gathered at a time
SPARE = 0.1  # of the memory of a GPU, which stays free if there is no such option


@in_phase(Phase.TRAINING)
def start_engine(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    micro_batch_size: int,
    gradient_clipping: float,
    bf16: bool,
    options: Plain,
    whole: Sequence[nn.Module] = (),
    frozen_lm: nn.Module | None = None,
    divides: bool = True,
) -> Engine:
    """An engine that accumulates batch_size / (micro_batch_size * ranks) micro-batches per step.

    `options` is trainer.deepspeed; config/deepspeed.py refuses the keys in it that are set here.

    With ZeRO 3 the layers of a frozen language model are divided by divided_layers.py, if `options` or the memory limit
    how many can be whole. What trains is small then, and DeepSpeed has it with ZeRO 2: its ZeRO 3 takes 60 ms of a step
    of two GPUs for a projector alone. Without such layers, or `divides`, which a run of an earlier version resumes
    without, DeepSpeed divides what trains, and does not find a frozen language model and the frozen modules in `whole`:
    until keep_whole, model.modules() lacks them. With options that say where it keeps weights, it divides a frozen
    language model, too. Ranks may call what is in `whole` differently often.
    """
    zero = options["zero_optimization"]
    layers = layers_of(frozen_lm) if frozen_lm is not None else []
    here = zero["stage"] == 3 and not places_weights(zero)
    divides = divides and here and can_be_divided(layers)
    if divides:
        options = {**options, "zero_optimization": {**zero, "stage": 2}}
    elif zero["stage"] == 3:
        _hide(model, [*whole, frozen_lm] if here and frozen_lm is not None else whole)
    settings = {
        **options,
        "train_batch_size": batch_size,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": batch_size // (micro_batch_size * dist.world()),
        "gradient_clipping": gradient_clipping,  # always set: DeepSpeed's default is 1.0
        "bf16": {"enabled": bf16},
        # The optimiser is an object of torch: for one described in a dictionary, DeepSpeed compiles code for 35 s.
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's measurement of samples/s waits for the GPU twice in each step; the log has our own.
        "timers": {"throughput": {"enabled": False}},
    }
    keep_in_place(model)
    engine = _initialize(model, optimizer, settings)
    if divides and dist.world() > 1:
        live = zero.get(LIVE, "auto")  # a word that DeepSpeed takes for its default
        room = room_for(layers) if live == "auto" else int(live)
        if room is not None:
            model.__dict__[DIVIDED] = DividedLayers(layers, room=room)
    if isinstance(engine.optimizer, FP16_UnfusedOptimizer):  # bf16 with ZeRO 0
        # DeepSpeed has taken a step with gradients of zero to allocate the moments: it decayed the weights and
        # increased the step count.
        engine.optimizer.optimizer.state.clear()
        engine.optimizer.refresh_fp32_params()
        engine.optimizer.step = partial(_step_without_waiting, engine.optimizer)
    return engine


def places_weights(zero: Plain) -> bool:
    """Whether options of ZeRO 3 say where DeepSpeed keeps its parts of the weights, and in which precision."""
    offload = zero.get("offload_param")
    device = offload.get("device") if isinstance(offload, dict) else offload
    return (
        device not in (None, "none")
        or zero.get("zero_hpz_partition_size") not in (None, 1)
        or zero.get("mics_shard_size") not in (None, -1)
        or bool(zero.get("zero_quantized_weights"))
    )  # values that DeepSpeed does not know are left for it to refuse


def room_for(layers: Sequence[nn.Module]) -> int | None:
    """How many weights of these layers can be whole, by the memory that was used so far; None: all, as on a CPU.

    A batch was tried with whole layers. To gather a layer costs time, also while the GPU computes.
    """
    weights = [weight for layer in layers for weight in layer.parameters()]
    if weights[0].device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    own = free + torch.cuda.memory_reserved() - torch.cuda.max_memory_reserved() - SPARE * total
    missing = -min(dist.gather(own))  # the same on all ranks, which must gather the same layers
    count, size = sum(weight.numel() for weight in weights), sum(weight.nbytes for weight in weights)
    return None if missing <= 0 else max(0, int(count * (1 - missing / size)))


def _hide(model: nn.Module, hidden: Sequence[nn.Module]) -> None:
    """Make these submodules plain attributes, which DeepSpeed does not find."""
    places = [
        (parent, name) for parent in model.modules() for name, child in parent.named_children() if child in hidden
    ]
    for parent, name in places:
        parent.__dict__[name] = parent._modules.pop(name)
    model.__dict__[HIDDEN] = places


def _show(model: nn.Module) -> None:
    """Undo _hide."""
    for parent, name in model.__dict__.pop(HIDDEN, []):
        parent._modules[name] = parent.__dict__.pop(name)


def _initialize(model: nn.Module, optimizer: torch.optim.Optimizer, settings: Plain) -> Engine:
    deepspeed_log.setLevel(logging.WARNING)
    # On the CPU DeepSpeed would compile this for half a minute, and fail without ninja or g++; gloo does the same.
    __compatible_ops__["deepspeed_shm_comm"] = False
    # On a GPU DeepSpeed would import torch's inductor, which takes a second, for a compiler that is not used here.
    engine_module.is_deepcompile_supported = lambda: False
    try:
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings, dist_init_required=False)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise UserError(f"trainer.deepspeed: DeepSpeed does not accept {option}: {first['msg']}") from error
    return engine


def load_engine(engine: Engine, folder: Path) -> bool:
    """Load DeepSpeed's own files of a checkpoint; False if they are missing.

    They are pickles, which DeepSpeed would unpickle without restriction. Here torch admits only tensors, plain data and
    the three classes that DeepSpeed writes, so that a file of unknown origin cannot run code. Raises
    pickle.UnpicklingError.
    """
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            loaded, _ = engine.load_checkpoint(str(folder), tag="engine", load_module_strict=False)
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before
    return loaded is not None


def backward(engine: Engine, loss_sum: torch.Tensor, target_tokens: torch.Tensor) -> None:
    """Add the gradient of loss_sum / target_tokens of one micro-batch; `target_tokens` counts those of the whole step.

    DeepSpeed divides by the number of micro-batches (switched off) and averages over ranks (multiplied back), so that
    the gradient of a step is that of one large batch, however it is divided.
    """
    dist.count_collective()
    engine.backward(loss_sum * (dist.world() / target_tokens), scale_wrt_gas=False)


def step(engine: Engine) -> torch.Tensor:
    """Take the optimiser step; returns the norm of its gradient before clipping, over all ranks.

    The norm is not finite if a gradient is not finite: DeepSpeed then silently skips some of the steps.
    """
    # In fp32 with ZeRO 0 DeepSpeed stores no norm, but the gradients are whole, averaged in the last backward pass.
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    plain = isinstance(engine.optimizer, torch.optim.Optimizer)
    own_norm = torch.nn.utils.get_total_norm(gradients) if plain else None
    dist.count_collective()
    engine.step()
    norm = torch.as_tensor(engine.get_global_grad_norm() if own_norm is None else own_norm, device=engine.device)
    return norm.where(norm >= 0, torch.nan)  # DeepSpeed returns -1 for an overflow


@torch.no_grad()
def _step_without_waiting(optimizer: FP16_UnfusedOptimizer) -> None:
    """What optimizer.step() does, for an AdamW of torch with fused=True.

    DeepSpeed 0.19 asks the GPU for each tensor in turn whether its gradient is finite, and then launches six kernels
    for each. A Swin-B has 327 tensors: meanwhile the GPU has nothing else to do. Here the tensors are processed
    together, and AdamW itself leaves out the step if a gradient is not finite, as it does for torch's GradScaler.
    """
    weights = [weight for group in optimizer.fp16_groups for weight in group]
    masters = [master for group in optimizer.fp32_groups for master in group]
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    for master in masters:
        master.grad = torch.empty_like(master)
    torch._foreach_copy_([master.grad for master in masters], gradients)
    norm = torch.nn.utils.get_total_norm([master.grad for master in masters])
    adamw = optimizer.optimizer
    adamw.found_inf = (~norm.isfinite()).float()
    if optimizer.clip_grad > 0:
        adamw.grad_scale = ((norm + 1e-6) / optimizer.clip_grad).clamp(min=1)  # by which gradients are divided
    try:
        adamw.step()
    finally:
        adamw.found_inf = adamw.grad_scale = None
    torch._foreach_copy_(weights, masters)
    for master in masters:
        master.grad = None
    optimizer._global_grad_norm = norm


def peak_gib(device: torch.device) -> float:
    """The peak memory of this rank so far: of its GPU, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def trainable_tensors(engine: Engine) -> dict[str, torch.Tensor]:
    """The fp32 masters of the trainable weights, whole, on the CPU. All ranks must call it: it gathers shards."""
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


def local_masters(engine: Engine) -> list[torch.Tensor]:
    """What the optimiser updates on this rank: weights of the module, their fp32 masters, or its shards of those."""
    optimizer = engine.optimizer
    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):  # which empties its parameter groups between steps
        return list(optimizer.fp32_partitioned_groups_flat)
    inner = getattr(optimizer, "optimizer", optimizer)
    return [parameter for group in inner.param_groups for parameter in group["params"]]


def set_masters(engine: Engine, tensors: Mapping[str, torch.Tensor]) -> None:
    """Set the fp32 masters to these values, where masters exist besides the weights of the module."""
    own = _own_masters(engine)
    for name, parameter in engine.module.named_parameters():
        if parameter in own:
            own[parameter].data.copy_(tensors[name])
        elif parameter.requires_grad and is_sharded(parameter):
            # deepspeed 0.19: safe_set_full_fp32_param goes out of range if the ranks do not divide the values.
            own_values = parameter.ds_tensor.numel()
            flat = torch.nn.functional.pad(tensors[name].flatten(), (0, own_values * dist.world()))
            safe_set_local_fp32_param(parameter, flat[own_values * dist.rank() :][:own_values])
        elif parameter.requires_grad and hasattr(parameter, "_hp_mapping"):
            safe_set_full_fp32_param(parameter, tensors[name])


def is_sharded(parameter: torch.Tensor) -> bool:
    """Whether ZeRO 3 divides this weight among the ranks."""
    return hasattr(parameter, "ds_id")


@contextmanager
def whole_weights(engine: Engine, *, changed: bool = False) -> Iterator[None]:
    """Within this context every rank has all weights of the module. All ranks must enter it.

    Generation needs it, since ranks then take different numbers of steps. With ZeRO 0 to 2 all weights but those of
    divided layers are whole anyway. With `changed` only the trainable weights are whole; they may be changed, in the
    same way on all ranks.
    """
    if engine.zero_optimization_stage() < 3:
        divided = None if changed else engine.module.__dict__.get(DIVIDED)
        with divided.whole() if divided else nullcontext():
            yield
        return
    parameters = [parameter for parameter in engine.module.parameters() if parameter.requires_grad or not changed]
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if changed else None):
        # In every forward pass, DeepSpeed's hooks would gather and free the weights of each layer on all ranks.
        offload = engine.optimizer.parameter_offload
        offload.destroy()
        try:
            yield
        finally:
            offload.setup_zero_stage3_hooks()


def keep_whole(module: nn.Module) -> None:
    """Give every rank all weights for good, after its engine was destroyed. All ranks must call it."""
    _show(module)
    if divided := module.__dict__.pop(DIVIDED, None):
        divided.keep_whole()
    sharded: list[Any] = [parameter for parameter in module.parameters() if is_sharded(parameter)]
    if sharded:
        sharded[0].all_gather(param_list=sharded)


def _own_masters(engine: Engine) -> dict[nn.Parameter, torch.Tensor]:
    """The masters of bf16 with ZeRO 0, which safe_get_full_fp32_param of deepspeed 0.19 does not find."""
    optimizer = engine.optimizer
    if not isinstance(optimizer, FP16_UnfusedOptimizer):
        return {}
    groups = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
    return {weight: master for weights, masters in groups for weight, master in zip(weights, masters, strict=True)}
