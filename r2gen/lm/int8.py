"""bitsandbytes' 8-bit layers with a backward pass for frozen weights: quant=int8."""

import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn import Linear8bitLt
from torch import nn

# N rows of activations, K input features, O output features


class FrozenInt8Linear(Linear8bitLt):
    """Linear8bitLt whose backward pass multiplies the gradient by the scales instead of the weight.

    bitsandbytes 0.50.2 casts the weight to the gradient's dtype, multiplies all of it by its scales and keeps the input
    of each layer, which only the gradient of the weight would need. Here a weight is only cast, 3 bytes of traffic each
    instead of 7, and nothing is kept. Outputs are the same; the gradient is equal up to rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() or not x.requires_grad or self.state.threshold > 0:
            return super().forward(x)
        if getattr(self.weight, "CB", None) is not None:
            self.init_8bit_state()
        bias = None if self.bias is None else self.bias.to(x.dtype)
        rows_NK = x.reshape(-1, x.shape[-1])
        # Outside of the autograd.Function, so that a compiler rounds what query, key and value share only once.
        values_NK, scale_N, _ = int8_vectorwise_quant(rows_NK.detach().to(torch.float16))
        output_NO: torch.Tensor = _Product.apply(rows_NK, values_NK, scale_N, self.state.CB, self.state.SCB, bias)
        return output_NO.view(*x.shape[:-1], -1)


def use_frozen_backward(model: nn.Module) -> None:
    """Give the 8-bit layers of a model the backward pass of FrozenInt8Linear."""
    for layer in model.modules():
        if type(layer) is Linear8bitLt:
            layer.__class__ = FrozenInt8Linear


class _Product(torch.autograd.Function):
    """The product of bitsandbytes; the gradient of the rows is (gradient x scales) @ weight, as if they were exact."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        rows_NK: torch.Tensor,
        values_NK: torch.Tensor,
        scale_N: torch.Tensor,
        weight_OK: torch.Tensor,
        scale_O: torch.Tensor,
        bias_O: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight_OK, scale_O)
        output_NO: torch.Tensor = torch.ops.bitsandbytes.int8_scaled_mm.default(
            values_NK, weight_OK, scale_N, scale_O, bias=bias_O, dtype=rows_NK.dtype
        )
        return output_NO

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient_NO: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None, None, None]:
        weight_OK, scale_O = ctx.saved_tensors  # type: ignore[attr-defined]
        # A scale belongs to the value 127; it is not rounded to the gradient's dtype, but the result is.
        scaled_NO = torch.mul(gradient_NO, scale_O / 127, out=torch.empty_like(gradient_NO))
        return scaled_NO @ weight_OK.to(gradient_NO.dtype), None, None, None, None, None
