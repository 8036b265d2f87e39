"""Contrastive search (Su et al., 2022, "A Contrastive Framework for Neural Text Generation", section 4).

transformers 5 has it only as code on the hub, which R2Gen never runs.
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

from r2gen.lm.padding import positions

# B batch, K candidates, N EOS tokens, T positions of the prompt, S positions so far, G generated tokens, E width,
# V vocabulary


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
    """Generate ids [B, G] by a decoder-only model from left-padded prompts, with padding after the first EOS token.

    Each step takes that one of the `top_k` likeliest tokens with the largest (1 - alpha) * probability - alpha *
    similarity. The similarity is the largest cosine of the token's last hidden state with those of the prompt and the
    report so far. Padding is left out, so that a report does not depend on its batch. `processors` are applied after
    the n-gram and length rules of `config`.
    """
    assert config.max_new_tokens is not None
    rules = _length_and_ngram_rules(config, processors, prompt_BTE.device)
    output = _forward_prompt(model, prompt_BTE, mask_BT)
    size, cache, scores_BV = len(mask_BT), output.past_key_values, output.logits[:, -1].float()
    states_BSE = F.normalize(output.hidden_states[-1].float(), dim=-1)
    ids_BG = mask_BT.new_zeros((size, 0))
    eos_N = torch.tensor(config.eos_token_id, device=mask_BT.device)
    unfinished_B = torch.ones(size, dtype=torch.bool, device=mask_BT.device)
    for _ in range(config.max_new_tokens):
        odds_BK, candidates_BK = rules(ids_BG, scores_BV).softmax(dim=-1).topk(top_k, dim=-1)  # type: ignore[arg-type]
        longer_BS = torch.cat([mask_BT, mask_BT.new_ones(size, 1)], dim=1)
        output = _forward_candidates(model, cache, candidates_BK, mask_BT, longer_BS)
        new_BKE = F.normalize(output.hidden_states[-1][:, -1].float(), dim=-1).view(size, top_k, -1)
        cosine_BKS = (new_BKE @ states_BSE.transpose(1, 2)).masked_fill(mask_BT[:, None] == 0, -torch.inf)
        best_B = ((1 - alpha) * odds_BK - alpha * cosine_BKS.amax(dim=-1)).argmax(dim=-1)
        rows_B = torch.arange(size, device=best_B.device) * top_k + best_B
        cache = output.past_key_values
        cache.batch_select_indices(rows_B)
        scores_BV, mask_BT = output.logits[rows_B, -1].float(), longer_BS
        states_BSE = torch.cat([states_BSE, new_BKE.flatten(0, 1)[rows_B][:, None]], dim=1)
        token_B = candidates_BK.flatten()[rows_B].where(unfinished_B, config.pad_token_id)
        ids_BG = torch.cat([ids_BG, token_B[:, None]], dim=1)
        unfinished_B = unfinished_B & ~torch.isin(token_B, eos_N)
        if not bool(unfinished_B.any()):
            break
    return ids_BG


def _forward_prompt(model: PreTrainedModel, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor) -> Any:
    forward: Any = model
    return forward(
        inputs_embeds=prompt_BTE,
        attention_mask=mask_BT,
        use_cache=True,
        output_hidden_states=True,
        position_ids=positions(mask_BT),
        logits_to_keep=1,
    )


def _forward_candidates(
    model: PreTrainedModel,
    cache: Any,
    candidates_BK: torch.Tensor,
    mask_BT: torch.Tensor,
    longer_BS: torch.Tensor,
) -> Any:
    """Run every candidate of every report as its next token; row B * K + k of the output is candidate k of report B."""
    top_k = candidates_BK.shape[1]
    cache.batch_repeat_interleave(top_k)
    forward: Any = model
    return forward(
        input_ids=candidates_BK.reshape(-1, 1),
        past_key_values=cache,
        use_cache=True,
        attention_mask=longer_BS.repeat_interleave(top_k, dim=0),
        output_hidden_states=True,
        position_ids=mask_BT.sum(dim=1, keepdim=True).repeat_interleave(top_k, dim=0),
    )


def _length_and_ngram_rules(
    config: GenerationConfig, processors: LogitsProcessorList, device: torch.device
) -> LogitsProcessorList:
    rules = LogitsProcessorList()
    if config.no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.min_new_tokens:
        rules.append(
            MinNewTokensLengthLogitsProcessor(0, config.min_new_tokens, config.eos_token_id, device=str(device))
        )
    return LogitsProcessorList([*rules, *processors])
