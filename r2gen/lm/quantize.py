"""Quantised weights of a language model: the configuration of the loader, checks, and the memory of the weights.

Only linear layers inside the blocks are quantised, never the embeddings and the output layer.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from r2gen.config.lm_rules import QUANT_PACKAGES
from r2gen.config.plain import Plain
from r2gen.errors import Code, UserError, installing
from r2gen.lm import families
from r2gen.lm.fp8 import Fp8Linear

NF4_BLOCK = 64  # weights that share a scale
Quantisation = QuantizationConfigMixin | Literal["fp8"]  # the configuration of a package's loader, or r2gen/lm/fp8.py


def quantisation_of(*, mode: str, double_quant: bool, dtype: torch.dtype) -> Quantisation | None:
    """The configuration of transformers' loader, fp8, or None for mode none; `dtype` is that of the activations.

    int8 is LLM.int8() (Dettmers et al., 2022) without its outlier columns: those are chosen over the whole batch, so
    that a report would depend on the other reports. nf4 is QLoRA's (Dettmers et al., 2023). int8_weight_only is
    torchao's: the weights are dequantised to `dtype` and the activations are not rounded. Raises UserError if the
    package is not installed or cannot be imported.
    """
    if mode == "none":
        return None
    if mode == "fp8":
        return "fp8"
    package = QUANT_PACKAGES[mode]
    if find_spec(package) is None:
        raise UserError(
            f"quant={mode} needs the package {package}: {installing(package)}",
            code=Code.PACKAGE_MISSING,
        )
    try:
        import_module(package)
    except (ImportError, OSError, RuntimeError) as error:  # a CUDA library is missing, or torch has another version
        raise UserError(
            f"quant={mode}: the package {package} cannot be imported ({error}): install it again, or use quant=none"
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
    # torchao would change how every kernel of this process is compiled, which takes much longer then
    return TorchAoConfig(import_module("torchao.quantization").Int8WeightOnlyConfig(set_inductor_config=False))


def check_format(quantization: Quantisation | None, *, model_type: str) -> None:
    """Refuse, before weights are read, to quantise by torchao a published format whose tensors are split while reading.

    transformers 5.17 and 5.23 give torchao only the first part of a split tensor; bitsandbytes gets all parts.
    """
    if isinstance(quantization, TorchAoConfig) and families.family(model_type).splits_tensors:
        raise UserError(
            f"quant=int8_weight_only: transformers cannot quantise with torchao the tensors that it splits in a "
            f"published {model_type} checkpoint: use quant=int8 or quant=nf4"
        )


def is_quantised(parameter: torch.Tensor) -> bool:
    """Whether these are quantised weights: integers, or a tensor subclass that contains them."""
    return not parameter.is_floating_point() or hasattr(type(parameter), "__tensor_flatten__")


def quantised_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with a quantised parameter, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if any(is_quantised(parameter) for parameter in layer.parameters(recurse=False))
    }


def check_quantised(model: PreTrainedModel, *, mode: str) -> None:
    """Refuse what the packages compute wrongly; a checkpoint that was quantised before is accepted with mode none.

    Raises UserError that names the layer.
    """
    layers, quantizer = quantised_layers(model), getattr(model, "hf_quantizer", None)
    if mode != "none" and quantizer is not None and quantizer.pre_quantized:
        method = quantizer.quantization_config.quant_method
        raise UserError(
            f"quant={mode}: this checkpoint is quantised already ({method}): use quant=none, or the checkpoint "
            "from which it was made"
        )
    if mode != "none" and not layers:
        raise UserError(f"quant={mode}: no linear layer of this language model can be quantised: use quant=none")
    outer = (model.get_input_embeddings(), model.get_output_embeddings())
    for name, layer in layers.items():
        state: Any = getattr(layer, "state", None)
        if state is not None:
            state.threshold = 0.0  # also if the checkpoint has another one, see quantisation_of
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # bitsandbytes would repack 4-bit weights in the first forward pass without gradients, for a kernel without
            # a backward pass: training would continue with wrong gradients after the first validation.
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
        if mode != "none" and any(layer is end for end in outer):
            raise UserError(
                f"quant={mode}: {name} is quantised, but embeddings and the output layer must not be: use quant=none"
            )
        weight, width = layer.get_parameter("weight"), getattr(layer, "in_features", 0)
        # bitsandbytes 0.50.2: the cosine of such a gradient to that of fp32 was .7
        if hasattr(weight, "quant_state") and weight.device.type == "cpu" and width % NF4_BLOCK:
            raise UserError(
                f"quant=nf4: bitsandbytes computes {name} wrongly on the CPU, since its rows of {width} are not a "
                f"multiple of {NF4_BLOCK}: use quant=int8, or a GPU"
            )


def recorded_mode(model: nn.Module, *, mode: str) -> str:
    """The quantisation to record: `mode`, or what a checkpoint that was quantised before has in its files."""
    quantizer: Any = getattr(model, "hf_quantizer", None)
    gguf: str | None = getattr(model, "gguf_type", None)
    if mode != "none" or (quantizer is None and gguf is None):
        return mode
    return f"{gguf or _stored_mode(quantizer.quantization_config.to_dict())} (in the checkpoint)"


def _stored_mode(config: Plain) -> str:
    """The name of a quantization_config: int8, nf4, fp8, gptq 4 bits, compressed-tensors pack-quantized."""
    method = config["quant_method"]
    method = str(getattr(method, "value", method))
    if method in ("bitsandbytes", "bitsandbytes_8bit", "bitsandbytes_4bit"):
        return "int8" if config.get("load_in_8bit") else str(config.get("bnb_4bit_quant_type", "fp4"))
    bits, stored = config.get("bits"), config.get("format") if method == "compressed-tensors" else None
    return " ".join(str(part) for part in (method, f"{bits} bits" if bits else None, stored) if part)


def keep_in_place(model: nn.Module) -> None:
    """Make DeepSpeed neither broadcast nor move quantised weights and weights that are on several devices.

    DeepSpeed would send every parameter, as bytes, from rank 0 to the other ranks, which have read the same file, and
    move every layer to the rank's device. torchao's weights are not plain bytes and can no longer be replaced then;
    those of lm.device_map=auto are on several devices.
    """
    for part in model.modules():
        if len(set(getattr(part, "hf_device_map", {}).values())) > 1:
            part._apply = _apply_nothing(part)  # type: ignore[method-assign]
            for parameter in part.parameters():
                parameter.ds_optim_param = True  # type: ignore[attr-defined]
    for layer in quantised_layers(model).values():
        for parameter in layer.parameters(recurse=False):
            if is_quantised(parameter):
                parameter.ds_optim_param = True  # type: ignore[attr-defined]
        if hasattr(type(layer.weight), "__tensor_flatten__"):
            layer._apply = _apply_nothing(layer)  # type: ignore[method-assign]


def _apply_nothing(layer: nn.Module) -> Callable[..., nn.Module]:
    def apply(fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        return layer

    return apply


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The name of each parameter with each plain tensor in which it is stored: integers and their scales."""
    for name, layer in model.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            # bitsandbytes moves the scales of int8 from the weight to the layer in the first forward pass
            moved: Any = getattr(layer, "state", None) if own == "weight" and is_quantised(parameter) else None
            scales = getattr(parameter, "SCB", None)
            for part in (*_parts(parameter), scales if scales is not None else getattr(moved, "SCB", None)):
                if part is not None:
                    yield f"{name}.{own}", part.detach()
        if isinstance(layer, Fp8Linear):
            yield f"{name}.weight", layer.scale.view(torch.float32)


def _parts(tensor: Any) -> Iterator[torch.Tensor]:
    if hasattr(type(tensor), "__tensor_flatten__"):  # torchao
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    state = getattr(tensor, "quant_state", None)  # 4 bits of bitsandbytes, whose scales may be quantised too
    while state is not None:
        yield from (value for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = state.state2


def weight_bytes(model: nn.Module) -> int:
    """The bytes that the weights of a model occupy, including scales; shared storage counts once."""
    tensors = [*(part for _, part in stored_tensors(model)), *model.buffers()]
    sizes = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in tensors}
    return sum(sizes.values())


def weight_count(parameter: torch.Tensor) -> int:
    """The number of weights in a parameter, also if two of them share a byte."""
    state: Any = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()


def use_frozen_backward(model: nn.Module) -> None:
    """Give layers in 8 bits of bitsandbytes the backward pass of int8.py, which imports that package."""
    if any(hasattr(parameter, "SCB") for parameter in model.parameters()):
        import_module("r2gen.lm.int8").use_frozen_backward(model)
