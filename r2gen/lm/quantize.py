"""Weights of a language model in 8 or 4 bits: what a loader is told, what may go wrong, and what the weights weigh.

Only linear layers inside the blocks are quantised: embeddings and the output layer stay as they are.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.errors import UserError

PACKAGES = {"int8": "bitsandbytes", "nf4": "bitsandbytes", "int8_weight_only": "torchao"}
NF4_BLOCK = 64  # weights that share a scale
SPLIT_ON_THE_WAY = frozenset({"baichuan", "chatglm", "internlm2", "qwen"})  # query, key and value in one tensor


def quantisation_of(*, mode: str, double_quant: bool, dtype: torch.dtype) -> QuantizationConfigMixin | None:
    """What transformers' loader is told, None for mode none; `dtype` is that of the activations.

    int8 is LLM.int8() (Dettmers et al., 2022) without its outlier columns: those are chosen over the whole flattened
    batch, so that a report would depend on its neighbours. nf4 is QLoRA's (Dettmers et al., 2023). int8_weight_only is
    torchao's: weights are multiplied out in `dtype`, activations are not rounded. Raises UserError where the package is
    not installed, or does not load.
    """
    if mode == "none":
        return None
    package = PACKAGES[mode]
    if find_spec(package) is None:
        raise UserError(f"quant={mode} needs the package {package}: pip install -c constraints.txt -e '.[quant]'")
    try:
        import_module(package)
    except (ImportError, OSError, RuntimeError) as error:  # a library of the GPU's that is not there, or another torch
        raise UserError(
            f"quant={mode}: the package {package} does not load here ({error}): install it again, or use quant=none"
        ) from error
    if mode == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    if mode == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=double_quant,
        )
    return TorchAoConfig(import_module("torchao.quantization").Int8WeightOnlyConfig())


def check_format(told: QuantizationConfigMixin | None, *, model_type: str) -> None:
    """Refuse, before weights are read, a format whose tensors are split on the way where the package takes no parts.

    transformers 5.17 and 5.23 hand torchao the first part alone; bitsandbytes gets all.
    """
    if isinstance(told, TorchAoConfig) and model_type in SPLIT_ON_THE_WAY:
        raise UserError(
            f"quant=int8_weight_only: transformers cannot quantise with torchao the tensors it splits "
            f"in a published {model_type} checkpoint: use quant=int8 or nf4"
        )


def is_quantised(parameter: torch.Tensor) -> bool:
    """Whether these are weights in less than their values: integers, or a subclass that holds some."""
    return not parameter.is_floating_point() or hasattr(type(parameter), "__tensor_flatten__")


def quantised_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers whose weight is quantised, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if any(is_quantised(parameter) for parameter in layer.parameters(recurse=False))
    }


def check_quantised(model: PreTrainedModel, *, mode: str) -> None:
    """Refuse what the packages get wrong; a checkpoint that was quantised before is taken with mode none.

    Raises UserError naming the layer.
    """
    layers, quantizer = quantised_layers(model), getattr(model, "hf_quantizer", None)
    if mode != "none" and quantizer is not None and quantizer.pre_quantized:
        method = quantizer.quantization_config.quant_method
        raise UserError(
            f"quant={mode}: this checkpoint is quantised already ({method}): use quant=none, or the "
            "checkpoint it was made from"
        )
    if mode != "none" and not layers:
        raise UserError(f"quant={mode}: no linear layer of this language model can be quantised: use quant=none")
    outer = (model.get_input_embeddings(), model.get_output_embeddings())
    for name, layer in layers.items():
        state: Any = getattr(layer, "state", None)
        if state is not None:
            state.threshold = 0.0  # also in a checkpoint that says otherwise, see quantisation_of
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # bitsandbytes would pack 4 bits anew in the first forward pass without gradients, for a kernel that has
            # none: a run that validates would train on with wrong gradients.
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
        if mode != "none" and any(layer is end for end in outer):
            raise UserError(
                f"quant={mode}: {name} is quantised, but embeddings and the output layer must not be: use quant=none"
            )
        weight, width = layer.get_parameter("weight"), getattr(layer, "in_features", 0)
        # bitsandbytes 0.50.2: the gradient was seen at a cosine of .7 to that of fp32
        if hasattr(weight, "quant_state") and weight.device.type == "cpu" and width % NF4_BLOCK:
            raise UserError(
                f"quant=nf4: bitsandbytes computes {name} wrongly on the CPU, its rows of {width} are no "
                f"multiple of {NF4_BLOCK}: use quant=int8, or a GPU"
            )


def keep_in_place(model: nn.Module) -> None:
    """Before DeepSpeed takes a model that is on its device: let it leave quantised and spread weights alone.

    It would send every parameter, as bytes, from rank 0 to the others, which have read the same file; and it would put
    every layer on the rank's device again. torchao's weights are no plain bytes, and cannot be exchanged any more by
    then; those of lm.device_map=auto lie on several devices.
    """
    for part in model.modules():
        if len(set(getattr(part, "hf_device_map", {}).values())) > 1:
            part._apply = _stays(part)  # type: ignore[method-assign]
            for parameter in part.parameters():
                parameter.ds_optim_param = True  # type: ignore[attr-defined]
    for layer in quantised_layers(model).values():
        for parameter in layer.parameters(recurse=False):
            if is_quantised(parameter):
                parameter.ds_optim_param = True  # type: ignore[attr-defined]
        if hasattr(type(layer.weight), "__tensor_flatten__"):
            layer._apply = _stays(layer)  # type: ignore[method-assign]


def _stays(layer: nn.Module) -> Callable[..., nn.Module]:
    def apply(fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        return layer

    return apply


def stored(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that the parameters of a model are stored in, integers and their scales, by parameter."""
    for name, layer in model.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            # bitsandbytes moves the scales of int8 from the weight to the layer in the first forward pass
            moved: Any = getattr(layer, "state", None) if own == "weight" and is_quantised(parameter) else None
            scales = getattr(parameter, "SCB", None)
            for part in (*_parts(parameter), scales if scales is not None else getattr(moved, "SCB", None)):
                if part is not None:
                    yield f"{name}.{own}", part.detach()


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    if hasattr(type(tensor), "__tensor_flatten__"):  # torchao
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    state = getattr(tensor, "quant_state", None)  # bitsandbytes' 4 bits, whose scales may be quantised themselves
    while state is not None:
        yield from (value for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = state.state2


def weight_bytes(model: nn.Module) -> int:
    """What the weights of a model take, scales included, each storage counted once."""
    tensors = [*(part for _, part in stored(model)), *model.buffers()]
    sizes = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in tensors}
    return sum(sizes.values())


def values(parameter: torch.Tensor) -> int:
    """How many values a parameter stands for, also where two of them share a byte."""
    state: Any = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()
