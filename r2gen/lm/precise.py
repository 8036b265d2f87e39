"""Decoding in float64, for a language model in float32 that is small enough to be held in memory twice.

The rounding of a float32 matrix product depends on its shape, and so on the batch. With a tiny LLaMA and three beams,
one of 64 reports had two beams closer than this rounding, and another text in another batch. In float64 none had.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from r2gen.lm.quantize import is_quantised

LARGEST = 1_000_000_000  # parameters, which take 8 GB more during decoding; larger models are published in 16 bits


@contextmanager
def double_precision(model: PreTrainedModel) -> Iterator[None]:
    """Let a model whose weights are all float32 compute in float64. Afterwards it has the same tensors as before.

    Unchanged are models in another precision, quantised, distributed over ranks, offloaded to the host or larger than
    LARGEST, decoder-only models with eager attention, whose fp32 softmax overflows on fp64's mask value, and models
    with an operator that has no float64.
    """
    if not _supports_float64(model):
        yield
        return
    with _in_float64(model):
        if model not in _computes:
            _computes[model] = _computes_two_tokens(model)
        if _computes[model]:
            yield
            return
    yield


_computes: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # in float64, where that was tried


@contextmanager
def _in_float64(model: PreTrainedModel) -> Iterator[None]:
    parameters = list(model.parameters())
    before = [parameter.data for parameter in parameters]
    experts = model.get_experts_implementation()
    try:
        if model._can_set_experts_implementation():
            model.set_experts_implementation("eager")  # torch's grouped_mm has no float64
        for parameter in parameters:
            parameter.data = parameter.data.double()
        yield
    finally:
        for parameter, data in zip(parameters, before, strict=True):
            parameter.data = data
        if model._can_set_experts_implementation():
            model.set_experts_implementation(experts)


def _computes_two_tokens(model: PreTrainedModel) -> bool:
    ids_BT = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    decoder = {"decoder_input_ids": ids_BT} if model.config.is_encoder_decoder else {}
    try:
        with torch.no_grad():
            model(inputs_embeds=model.get_input_embeddings()(ids_BT), use_cache=False, **decoder)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _supports_float64(model: PreTrainedModel) -> bool:
    parameters = list(model.parameters())
    return (
        all(_is_plain_float32(parameter) for parameter in parameters)
        and sum(parameter.numel() for parameter in parameters) <= LARGEST
        and (model.config.is_encoder_decoder or model.config._attn_implementation != "eager")
    )


def _is_plain_float32(parameter: nn.Parameter) -> bool:
    elsewhere = parameter.is_meta or parameter.numel() == 0  # offloaded to the host, or partitioned by ZeRO 3
    return parameter.dtype == torch.float32 and not is_quantised(parameter) and not elsewhere
