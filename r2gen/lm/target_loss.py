"""The loss at the targets only, a few at a time, so that the logits of a batch never exist all at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from r2gen.lm.compile import forward_of

# M targets, E width, V vocabulary
CHUNK = 2048  # targets; logits in fp32 with their gradient take .8 GiB for a vocabulary of 50,000

Logits = Callable[[torch.Tensor], torch.Tensor]  # [M, E] -> [M, V]


def target_nats(
    hidden_ME: torch.Tensor, target_M: torch.Tensor, logits: Logits, *, frozen: bool, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The cross-entropy [M] of each target in fp32; `logits` are those of the model for its last hidden states.

    If no weight in `logits` trains (`frozen`), the gradient of a chunk's hidden states is computed with its loss, and
    its logits are forgotten. Else this is the plain cross-entropy. `label_smoothing` is that of torch.
    """
    if not torch.is_grad_enabled():
        chunks = zip(hidden_ME.split(CHUNK), target_M.split(CHUNK), strict=True)
        return torch.cat([_nats(logits(hidden), target, label_smoothing) for hidden, target in chunks])
    if frozen and len(target_M) > CHUNK:
        result: torch.Tensor = _Chunked.apply(hidden_ME, target_M, logits, label_smoothing)
        return result
    return _nats(logits(hidden_ME), target_M, label_smoothing)


def _nats(logits_MV: torch.Tensor, target_M: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    return F.cross_entropy(logits_MV.float(), target_M, reduction="none", label_smoothing=label_smoothing)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden_ME: torch.Tensor,
        target_M: torch.Tensor,
        logits: Logits,
        label_smoothing: float,
    ) -> torch.Tensor:
        nats: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        for hidden, target in zip(hidden_ME.split(CHUNK), target_M.split(CHUNK), strict=True):
            with torch.enable_grad():
                leaf = nn.Parameter(hidden.detach())
                own = _nats(logits(leaf), target, label_smoothing)
                gradients += torch.autograd.grad(own.sum(), leaf)
            nats.append(own.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(nats)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient_M: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        (gradient_ME,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient_ME * gradient_M[:, None].to(gradient_ME.dtype), None, None, None


def decode_states(model: PreTrainedModel, **inputs: Any) -> tuple[torch.Tensor, Logits]:
    """The last hidden states [R, S, E] of a causal model, and the function from such states [M, E] to logits [M, V].

    That function is the model itself with its decoder replaced by one that returns the states, so that the
    model caps (Gemma) or scales (Cohere, Granite) its logits as always.
    """
    # get_decoder() is the model itself for Llama 4, and the output layer for ModernBERT
    parts = (model.get_decoder(), model.base_model, getattr(model, "model", None))
    decoder: Any = next(part for part in parts if isinstance(part, PreTrainedModel) and part is not model)
    output = decoder(**inputs, use_cache=False)

    def logits(hidden_ME: torch.Tensor) -> torch.Tensor:
        states = type(output)(**{**output, "last_hidden_state": hidden_ME[None]})
        with forward_of(decoder, lambda *_, **__: states):
            result: torch.Tensor = model(inputs_embeds=hidden_ME[None], use_cache=False).logits
        return result[0]

    return output.last_hidden_state, logits
