"""The per-layer inputs of Gemma 3n and of Gemma 4 E2B and E4B, whose layers look up the ids of all tokens.

A prompt is embeddings here, so that its ids are found in the embedding matrix. An embedding of no token is a feature of
an image: its per-layer input is that of the padding token, as in the multimodal classes of transformers.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from r2gen.config.plain import Plain

ROWS = 4096  # of the embedding matrix, hashed at once

# V tokens of the vocabulary, N embeddings, E their width


def pass_per_layer_inputs(model: PreTrainedModel) -> None:
    """Let the text model compute its per-layer inputs also where it gets embeddings."""
    text: Any = model.base_model
    if not getattr(text.config, "hidden_size_per_layer_input", None):
        return
    token_ids = TokenIds(text)

    def add(_: Any, args: tuple[Any, ...], kwargs: Plain) -> tuple[tuple[Any, ...], Plain]:
        embeds = kwargs.get("inputs_embeds")
        if embeds is None or kwargs.get("per_layer_inputs") is not None:
            return args, kwargs
        return args, {**kwargs, "per_layer_inputs": _look_up(text, token_ids.of(embeds))}

    text.register_forward_pre_hook(add, with_kwargs=True)


def _look_up(text: Any, ids: torch.Tensor) -> torch.Tensor:
    """The inputs of each layer for these ids; get_per_layer_inputs of transformers 5.17 has other parameters."""
    config = text.config
    ids = ids.where(ids < config.vocab_size_per_layer_input, 0)
    inputs: torch.Tensor = text.embed_tokens_per_layer(ids)
    return inputs.unflatten(-1, (config.num_hidden_layers, config.hidden_size_per_layer_input))


class TokenIds:
    """Finds tokens by their embeddings, with a hash of each row of the embedding matrix."""

    def __init__(self, text: Any) -> None:
        self.text = text
        self.made_for: tuple[torch.dtype, torch.device] | None = None
        self.hash_V = self.id_V = torch.empty(0)  # in the order of the hashes

    @torch.no_grad()
    def of(self, embeds: torch.Tensor) -> torch.Tensor:
        """The id of each embedding, in the shape of `embeds` without its last axis."""
        weight = self.text.embed_tokens.weight
        if weight.requires_grad or self.made_for != (weight.dtype, embeds.device):
            self._make(embeds.device)
            self.made_for = (weight.dtype, embeds.device)
        flat_NE = embeds.flatten(0, -2)
        place_N = torch.searchsorted(self.hash_V, _hash(flat_NE)).clamp(max=len(self.hash_V) - 1)
        id_N = self.id_V[place_N]
        is_token_N = (self.text.embed_tokens(id_N).float() == flat_NE.float()).all(dim=1)
        return torch.where(is_token_N, id_N, self.text.config.pad_token_id or 0).view(embeds.shape[:-1])

    def _make(self, device: torch.device) -> None:
        ids_V = torch.arange(self.text.config.vocab_size, device=device)
        hashes = [_hash(self.text.embed_tokens(some)) for some in ids_V.split(ROWS)]
        self.hash_V, self.id_V = torch.cat(hashes).sort(stable=True)


def _hash(embeds_NE: torch.Tensor) -> torch.Tensor:
    """A hash of the bits of each embedding in float32, with which a model in float64 has the same ones."""
    bits_NE = embeds_NE.float().contiguous().view(torch.int32).long()
    random = torch.Generator().manual_seed(0)
    factors_E = torch.randint(2**62, bits_NE.shape[1:], generator=random).to(bits_NE.device)
    return (bits_NE * factors_E).sum(dim=1)
