"""Predicted and measured memory of a run: weights as they are stored, what training adds, and what a study costs."""

import resource
from collections import Counter
from typing import Any

import torch

from r2gen.config.schema import Config
from r2gen.lm.quantize import quantised_layers, stored_tensors, weight_bytes, weight_count
from r2gen.model.report_generator import ReportGenerator
from r2gen.tasks.check.rows import Fails

GIB = 2**30
BYTES_A_VALUE = {"int8": 1.0, "int8_weight_only": 1.0, "nf4": 0.5 + 4 / 64}  # nf4: a scale a block of 64
BYTES_A_TRAINED = 16  # weight, gradient and two moments in fp32; in bf16 weight and gradient, then fp32 masters
SLACK, SLACK_A_LAYER = 0.1, 2048  # scales quantised again, tables of 4-bit values


def predicted_lm_bytes(model: torch.nn.Module, *, mode: str) -> float:
    """What the weights of a language model should take, from its shapes alone."""
    inner = {f"{name}.weight": layer for name, layer in quantised_layers(model).items()}
    plain: Counter[str] = Counter()
    for name, part in stored_tensors(model):
        plain[name] += part.nbytes
    total = 0.0
    for name, parameter in model.named_parameters():
        if name in inner and mode in BYTES_A_VALUE:
            rows: Any = getattr(inner[name], "out_features", 0)
            total += weight_count(parameter) * BYTES_A_VALUE[mode] + (4 * rows if mode != "nf4" else 0)
        else:
            total += plain[name]
    return total + sum(buffer.nbytes for buffer in model.buffers())


def memory_found(model: ReportGenerator, config: Config, *, device: torch.device, bytes_a_study: float | None) -> str:
    """The row's text. Raises Fails where weights are not stored as asked, or a run would not fit the GPU."""
    lm, mode = model.lm.model, config.quant.mode
    predicted, measured = predicted_lm_bytes(lm, mode=mode), weight_bytes(lm)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) * BYTES_A_TRAINED
    found = (
        f"language model {_gib(predicted)} predicted, {_gib(measured)} measured; what trains {_gib(trained)} with "
        f"its moments"
    )
    if abs(predicted - measured) > SLACK * predicted + SLACK_A_LAYER * len(quantised_layers(lm)):
        raise Fails(found, fix="the weights are not stored as quant= and lm.dtype say: please report this")
    if bytes_a_study is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return f"{found}; this process {_gib(peak)} at its peak"
    micro = config.trainer.micro_batch_size
    room = torch.cuda.get_device_properties(device).total_memory
    need = weight_bytes(model) + trained + bytes_a_study * micro
    found += (
        f"; a study {_gib(bytes_a_study)} in a step; with micro batches of {micro} {_gib(need)} of {_gib(room)}; "
        f"{_gib(torch.cuda.max_memory_allocated(device))} at the peak of this check"
    )
    if need > room:
        fits = int((room - weight_bytes(model) - trained) / bytes_a_study)
        fix = f"trainer.micro_batch_size={fits}, or " if fits > 0 else ""
        raise Fails(found, fix=f"{fix}lm.gradient_checkpointing=true, quant=nf4, a larger GPU")
    return found


def _gib(count: float) -> str:
    return f"{count / GIB:.3g} GiB" if count >= GIB / 100 else f"{count / 2**20:.3g} MiB"
