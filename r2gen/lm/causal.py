"""A decoder-only language model: prompt and report are one sequence of embeddings."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.data.collate import NO_TARGET
from r2gen.lm.decoding import decode, left_pad
from r2gen.lm.decoding_profile import Decoding
from r2gen.lm.protocol import Generated
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T tokens of prompt and report, L the last of them, E width of the language model, V vocabulary


class CausalLM(nn.Module):
    """A transformers model for causal language modelling behind the LanguageModel protocol.

    With gradient_checkpointing the layers' activations are computed again in the backward pass of `loss`, also where
    the model is frozen and in eval().
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, *, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.gradient_checkpointing = gradient_checkpointing
        model.generation_config = GenerationConfig()  # the checkpoint's own defaults (Qwen samples) may not leak in

    @property
    def dim(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def loss(self, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
        """See LanguageModel.loss. Padding may stand anywhere: positions count real tokens only."""
        length = targets_BL.shape[1]
        if length == mask_BT.shape[1]:  # nothing stands before the first token to predict it from
            targets_BL, length = targets_BL[:, 1:], length - 1
        with _recomputed(self.model, self.gradient_checkpointing):
            output = self.model(
                inputs_embeds=embeds_BTE.to(self.model.dtype),
                attention_mask=mask_BT.long(),
                position_ids=positions(mask_BT),
                logits_to_keep=length + 1,
                use_cache=False,
            )
        logits_BLV = output.logits[:, :-1].float()
        return F.cross_entropy(logits_BLV.flatten(0, 1), targets_BL.flatten(), ignore_index=NO_TARGET, reduction="sum")

    @torch.no_grad()
    def generate(self, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding) -> list[Generated]:
        """See LanguageModel.generate. Padding may stand anywhere. Raises UserError where the report may not fit."""
        embeds_BTE = embeds_BTE.to(self.model.dtype)
        with _evaluating(self.model):
            return decode(self.model, self.tokenizer, *left_pad(embeds_BTE, mask_BT), decoding=decoding)


def positions(mask_BT: torch.Tensor) -> torch.Tensor:
    """Each real token's place among the real ones of its row; padding gets the place before it, or 0."""
    return (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)


@contextmanager
def _recomputed(model: nn.Module, wanted: bool) -> Iterator[None]:
    """transformers checkpoints a layer only while it is in train(), and a frozen model never is: so the flag of the
    layers alone is set (their dropout lies in submodules and stays as it is), and put back at the end."""
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if wanted else []
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = layer.gradient_checkpointing = True
        layer.__dict__["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=False)
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training, layer.gradient_checkpointing = training, False


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
