"""Predicted and measured memory of a run: weights as they are stored, what training adds, and a study in a step."""

import resource
from collections import Counter

import torch

from r2gen.config.schema import Config
from r2gen.lm.quantize import NF4_BLOCK, quantised_layers, stored_tensors, weight_bytes, weight_count
from r2gen.model.report_generator import ReportGenerator
from r2gen.tasks.check.results import CheckFailed

GIB = 2**30
BYTES_PER_WEIGHT = {"int8": 1.0, "int8_weight_only": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / NF4_BLOCK}  # nf4: fp32 scales
BYTES_PER_TRAINED_WEIGHT = 16  # fp32: weight, gradient, two moments; bf16: weight, gradient, fp32 master, two moments
TOLERANCE, TOLERANCE_PER_LAYER = 0.1, 2048  # bytes per layer: scales quantised again, tables of 4-bit values


def predicted_lm_bytes(model: torch.nn.Module, *, mode: str) -> float:
    """The memory that the weights of a language model should take, computed from their shapes."""
    quantised = {f"{name}.weight": layer for name, layer in quantised_layers(model).items()}
    stored: Counter[str] = Counter()
    for name, tensor in stored_tensors(model):
        stored[name] += tensor.nbytes
    total = 0.0
    for name, parameter in model.named_parameters():
        if name in quantised and mode in BYTES_PER_WEIGHT:
            scales = 0 if mode in ("nf4", "fp8") else int(getattr(quantised[name], "out_features", 0))
            total += weight_count(parameter) * BYTES_PER_WEIGHT[mode] + 4 * scales  # those of fp8 are buffers
        else:
            total += stored[name]
    return total + sum(buffer.nbytes for buffer in model.buffers())


def check_memory(model: ReportGenerator, config: Config, *, device: torch.device, bytes_per_study: float | None) -> str:
    """The measured memory. Raises CheckFailed if the weights are not stored as configured, or a step does not fit.

    `bytes_per_study` is the GPU memory of one study in a training step; None on the CPU.
    """
    lm, mode = model.lm.model, config.quant.mode
    predicted, measured = predicted_lm_bytes(lm, mode=mode), weight_bytes(lm)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * BYTES_PER_TRAINED_WEIGHT
    shown = (
        f"language model {_gib(predicted)} predicted, {_gib(measured)} measured; trained weights {_gib(trained)} with "
        "gradients and moments"
    )
    if abs(predicted - measured) > TOLERANCE * predicted + TOLERANCE_PER_LAYER * len(quantised_layers(lm)):
        raise CheckFailed(
            shown, fix="the weights are not stored as quant= and lm.dtype set: this is a defect, please report it"
        )
    if bytes_per_study is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return f"{shown}; peak of this process {_gib(peak)}"
    micro_batch = config.trainer.micro_batch_size
    total = torch.cuda.get_device_properties(device).total_memory
    fixed = weight_bytes(model) + trained
    need = fixed + bytes_per_study * micro_batch
    shown += (
        f"; a step needs {_gib(bytes_per_study)} per study, and {_gib(need)} of {_gib(total)} with micro-batches of "
        f"{micro_batch}; peak of this check {_gib(torch.cuda.max_memory_allocated(device))}"
    )
    if need > total:
        fitting = int((total - fixed) / bytes_per_study)
        smaller = f"trainer.micro_batch_size={fitting}, or " if fitting > 0 else ""
        raise CheckFailed(shown, fix=f"use {smaller}lm.gradient_checkpointing=true, quant=nf4, or a larger GPU")
    return shown


def _gib(count: float) -> str:
    return f"{count / GIB:.3g} GiB" if count >= GIB / 100 else f"{count / 2**20:.3g} MiB"
