"""The keys and values of the positions that every prompt begins with, computed once for a frozen language model.

They depend on the token ids before the image only, so they are the same in every step and have no gradient. Rows of all
studies (lm/rows.py) then have the other positions only, and packed attention puts these keys in front of each study.
"""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from r2gen.lm.packed_attention import packed_attention
from r2gen.lm.target_loss import decode_states
from r2gen.lm.tree_attention import attending_by

NAME = "r2gen_opening"

# P positions of the opening, E width of the model, H heads, N heads of keys, D width of a head


def keep_opening(model: PreTrainedModel, embeds_1PE: torch.Tensor) -> None:
    """Keep the keys and values of these embeddings in each attention module, as `opening`: two tensors [P, N, D]."""
    length, device = embeds_1PE.shape[1], embeds_1PE.device
    # Without inference mode, in which an evaluation may be: a backward pass cannot use tensors that come from there.
    with torch.inference_mode(False), torch.no_grad(), attending_by(model, NAME):
        decode_states(
            model,
            inputs_embeds=embeds_1PE.clone(),
            position_ids=torch.arange(length, device=device)[None],
            cu_seq_lens_q=torch.tensor([0, length], dtype=torch.int32, device=device),
            max_length_q=length,
        )


def _keeping_attention(
    module: nn.Module,
    query_1HPD: torch.Tensor,
    key_1NPD: torch.Tensor,
    value_1NPD: torch.Tensor,
    *args: Any,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    key_PND, value_PND = (x[0].transpose(0, 1).contiguous() for x in (key_1NPD, value_1NPD))
    module.opening = key_PND, value_PND  # type: ignore[assignment]
    return packed_attention(module, query_1HPD, key_1NPD, value_1NPD, *args, **options)


AttentionInterface.register(NAME, _keeping_attention)
