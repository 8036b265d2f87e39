"""Contrastive search (Su et al., 2022, "A Contrastive Framework for Neural Text Generation", section 4).

transformers 5 keeps it as code on the hub, which is never run here.
"""

from typing import Any

import torch
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
)

# B batch, K candidates, T positions of the prompt, S those so far, G generated tokens, E width, V vocabulary


def contrastive_search(
    model: PreTrainedModel,
    prompt_BTE: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    config: GenerationConfig,
    processors: LogitsProcessorList,
    alpha: float,
    top_k: int,
) -> torch.Tensor:
    """Ids [B, G] of a decoder-only model for left-padded prompts, padded after the first end sign.

    Of the `top_k` likeliest tokens each step takes the one with the largest (1 - alpha) * probability - alpha *
    likeness, the largest cosine of its last hidden state with those of prompt and report so far. Padding is no part of
    either, so a report does not depend on its batch. `processors` come after the rules of `config`.
    """
    assert config.max_new_tokens is not None
    rules = _rules(config, processors, prompt_BTE.device)
    forward: Any = model
    output = forward(
        inputs_embeds=prompt_BTE,
        attention_mask=mask_BT,
        use_cache=True,
        output_hidden_states=True,
        position_ids=(mask_BT.cumsum(dim=1) - 1).clamp(min=0),
        logits_to_keep=1,
    )
    size, cache, scores_BV = len(mask_BT), output.past_key_values, output.logits[:, -1].float()
    states_BSE = F.normalize(output.hidden_states[-1].float(), dim=-1)
    ids_BG = mask_BT.new_zeros((size, 0))
    ends = torch.tensor(config.eos_token_id, device=mask_BT.device)
    going_B = torch.ones(size, dtype=torch.bool, device=mask_BT.device)
    for _ in range(config.max_new_tokens):
        odds_BK, candidates_BK = rules(ids_BG, scores_BV).softmax(dim=-1).topk(top_k, dim=-1)  # type: ignore[arg-type]
        longer_BS = torch.cat([mask_BT, mask_BT.new_ones(size, 1)], dim=1)
        cache.batch_repeat_interleave(top_k)
        output = forward(
            input_ids=candidates_BK.reshape(-1, 1),
            past_key_values=cache,
            use_cache=True,
            attention_mask=longer_BS.repeat_interleave(top_k, dim=0),
            output_hidden_states=True,
            position_ids=mask_BT.sum(dim=1, keepdim=True).repeat_interleave(top_k, dim=0),
        )
        new_BKE = F.normalize(output.hidden_states[-1][:, -1].float(), dim=-1).view(size, top_k, -1)
        cosine_BKS = (new_BKE @ states_BSE.transpose(1, 2)).masked_fill(mask_BT[:, None] == 0, -torch.inf)
        best_B = ((1 - alpha) * odds_BK - alpha * cosine_BKS.amax(dim=-1)).argmax(dim=-1)
        rows_B = torch.arange(size, device=best_B.device) * top_k + best_B
        cache = output.past_key_values
        cache.batch_select_indices(rows_B)
        scores_BV, mask_BT = output.logits[rows_B, -1].float(), longer_BS
        states_BSE = torch.cat([states_BSE, new_BKE.flatten(0, 1)[rows_B][:, None]], dim=1)
        token_B = candidates_BK.flatten()[rows_B].where(going_B, config.pad_token_id)
        ids_BG = torch.cat([ids_BG, token_B[:, None]], dim=1)
        going_B = going_B & ~torch.isin(token_B, ends)
        if not bool(going_B.any()):
            break
    return ids_BG


def _rules(config: GenerationConfig, processors: LogitsProcessorList, device: torch.device) -> LogitsProcessorList:
    rules = LogitsProcessorList()
    if config.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.min_new_tokens:
        rules.append(
            MinNewTokensLengthLogitsProcessor(0, config.min_new_tokens, config.eos_token_id, device=str(device))
        )
    return LogitsProcessorList([*rules, *processors])
