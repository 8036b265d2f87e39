"""float64 for the steps of decoding, where a language model in float32 is small enough to be held twice.

Matrix products in float32 round by their shape, and so by the batch. One of 64 reports of a tiny LLaMA with three beams
had two beams nearer to each other than that, and another text in another batch; in float64 none.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from r2gen.lm.quantize import is_quantised

LARGEST = 1_000_000_000  # parameters: 8 GB more while reports are written. Published models beyond are in 16 bits


@contextmanager
def double_precision(model: PreTrainedModel) -> Iterator[None]:
    """A model all in float32 computes in float64; any other as it is. Afterwards it has the very tensors of before.

    Left alone, too: weights that are quantised, spread over ranks or moved to the host, more than LARGEST, and eager
    attention of decoder-only models, whose softmax in float32 has no number for what float64 hides padding with.
    """
    parameters = list(model.parameters()) if _served(model) else []
    before = [parameter.data for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.data = parameter.data.double()
        yield
    finally:
        for parameter, data in zip(parameters, before, strict=True):
            parameter.data = data


def _served(model: PreTrainedModel) -> bool:
    parameters = list(model.parameters())
    return (
        all(_plain(parameter) for parameter in parameters)
        and sum(parameter.numel() for parameter in parameters) <= LARGEST
        and (model.config.is_encoder_decoder or model.config._attn_implementation != "eager")
    )


def _plain(parameter: nn.Parameter) -> bool:
    elsewhere = parameter.is_meta or parameter.numel() == 0  # on the host, or in pieces of ZeRO 3
    own = is_quantised(parameter) or elsewhere
    return parameter.dtype == torch.float32 and not own
