"""Linear layers of a frozen language model in fp8 (e4m3): quant=fp8.

A weight is stored with one scale per output row, an activation is quantised with one scale per row when it arrives, and
the product is accumulated in fp32. A row of a batch has its own scale, so that a report does not depend on the others.
GPUs from compute capability 8.9 on multiply in fp8 (torch._scaled_mm); everywhere else the same function is computed
from the same rounded values in fp32, which saves memory and no time.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from r2gen.errors import UserError

# N rows of activations, K input features, O output features

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max  # 448
TINY = 1e-12  # the largest value of a row of zeros, whose scale must not be 0
WIDE = 8192  # columns
MULTIPLE = 16  # of both widths of a weight, for torch._scaled_mm


class Fp8Linear(nn.Linear):
    """A linear layer with a frozen e4m3 weight; the gradient of its input is computed from the rounded weight.

    Weight and scales are stored as integers with the bits of e4m3 and of fp32, since casts of the whole model, such as
    DeepSpeed's to bf16, leave integers as they are.
    """

    scale: torch.Tensor
    transposed: torch.Tensor | None  # the weight [K, O] once more, since GPUs read fp8 in one direction only

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight_OK, scale_O1 = quantise_rows(linear.weight.detach())
        self.weight = nn.Parameter(weight_OK.view(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale_O1.view(torch.int32), persistent=False)
        self.register_buffer("transposed", None, persistent=False)
        self.bias = linear.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and input.requires_grad:
            # Rounded here, since torch.compile of torch 2.11 does not compile the operator within a Function.
            rounded = quantise_rows(input.detach().reshape(-1, self.in_features))
            output: torch.Tensor = _Product.apply(input, *rounded, self.weight, self.scale, self.transposed)
        else:
            rounded = quantise_rows(input.reshape(-1, self.in_features))
            output = _product(input, *rounded, self.weight, self.scale)
        return output if self.bias is None else output + self.bias


def to_fp8(model: PreTrainedModel) -> None:
    """Replace the linear layers inside the blocks one by one, never embeddings and the output layer.

    Raises UserError naming a layer whose widths fp8 cannot multiply. Layers that are quantised already stay.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [
        name
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and layer.weight.is_floating_point() and not any(layer is end for end in ends)
    ]
    for name in names:
        rows, columns = model.get_submodule(name).get_parameter("weight").shape
        if rows % MULTIPLE or columns % MULTIPLE:
            raise UserError(
                f"quant=fp8: {name} has {rows} x {columns} weights, and fp8 multiplies multiples of {MULTIPLE} only: "
                "use quant=int8"
            )
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, Fp8Linear(linear))


def prepare_backward(model: nn.Module) -> None:
    """Let the gradient of each fp8 layer be computed in fp8 too, for which its weight is stored a second time."""
    for layer in model.modules():
        if isinstance(layer, Fp8Linear):
            layer.transposed = layer.weight.detach().t().contiguous()


def rounds_activations(model: nn.Module) -> bool:
    """Whether a model has fp8 layers, which turn a difference in the last digit of an activation into 6 % of it."""
    return any(isinstance(layer, Fp8Linear) for layer in model.modules())


def quantise_rows(values_NK: torch.Tensor, factor_1K: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The values in e4m3 and the fp32 scale [N, 1] of each row, whose largest value becomes 448.

    With a `factor_1K` in fp32, the products of values and factors.
    """
    # torch.compile fuses what follows, but reads rows twice that are wider than those of most activations.
    fuses = torch.compiler.is_compiling() and values_NK.shape[-1] < WIDE
    if multiplies_fp8(values_NK.device) and not fuses:
        from r2gen.lm.fp8_kernel import quantise_rows_on_gpu  # needs triton, which torch for the CPU may lack

        rounded_NK, scale_N1 = quantise_rows_on_gpu(values_NK, factor_1K)
        return rounded_NK, scale_N1
    if factor_1K is not None:
        values_NK = values_NK * factor_1K
    largest_N1 = torch.linalg.vector_norm(values_NK, ord=torch.inf, dim=-1, keepdim=True, dtype=torch.float32)
    largest_N1 = largest_N1.clamp(min=1e-12)  # TINY, and LARGEST: torch.compile would make inputs of named numbers
    # One division per row: with one per value, the arithmetic would take longer than reading the values.
    return (values_NK * (448.0 / largest_N1)).to(FP8), largest_N1 / 448.0


@torch.compiler.assume_constant_result
def multiplies_fp8(device: torch.device) -> bool:
    """Whether this device has fp8 matrix products."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 9)


def _product(
    input: torch.Tensor, values_NK: torch.Tensor, scale_N1: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The product of the rounded values of `input`, in its shape and dtype."""
    output_NO = _multiplied(values_NK, scale_N1, weight, scale.view(torch.float32).t())
    return output_NO.to(input.dtype).view(*input.shape[:-1], output_NO.shape[-1])


def _multiplied(
    values_NK: torch.Tensor, scale_N1: torch.Tensor, weight_OK: torch.Tensor, scale_1O: torch.Tensor
) -> torch.Tensor:
    weight_KO = weight_OK.view(FP8).t()
    if multiplies_fp8(values_NK.device):
        return torch._scaled_mm(
            values_NK, weight_KO, scale_a=scale_N1, scale_b=scale_1O, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return (values_NK.float() @ weight_KO.float()) * scale_N1 * scale_1O


class _Product(torch.autograd.Function):
    """The product with the gradient of the input alone, as if the input had not been rounded.

    With a transposed weight the gradient is rounded to e4m3 too, with a scale per row. The scales of the weight belong
    to what is summed over, so the gradient is multiplied by them before it is rounded.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        input: torch.Tensor,
        values_NK: torch.Tensor,
        scale_N1: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        transposed: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, scale, transposed)  # type: ignore[arg-type]  # torch saves None too
        return _product(input, values_NK, scale_N1, weight, scale)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None, None, None]:
        weight, scale, transposed = ctx.saved_tensors  # type: ignore[attr-defined]
        if transposed is None:
            weight_OK = (weight.view(FP8).float() * scale.view(torch.float32)).to(gradient.dtype)
            return gradient @ weight_OK, None, None, None, None, None
        factor_1O = scale.view(torch.float32).t()
        values_NO, scale_N1 = quantise_rows(gradient.reshape(-1, gradient.shape[-1]), factor_1O)
        ones_1K = scale.new_ones(1, len(transposed), dtype=torch.float32)
        gradient_NK = _multiplied(values_NO, scale_N1, transposed, ones_1K)
        gradient_NK = gradient_NK.to(gradient.dtype)
        return gradient_NK.view(*gradient.shape[:-1], len(transposed)), None, None, None, None, None
