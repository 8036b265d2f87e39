"""Decoding through transformers' generate(), with what makes a report depend on its batch put right."""

import warnings
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from r2gen.errors import UserError
from r2gen.lm.decoding_profile import Decoding
from r2gen.lm.protocol import Generated
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T tokens of the prompt, G generated tokens, E width of the language model, V vocabulary


class RepetitionPenalty(LogitsProcessor):
    """Keskar et al. (2019): scores of tokens already generated are divided by the penalty, negative ones multiplied.

    Only generated tokens count, as in R2GenGPT (embeddings as prompt). transformers 5.23's own class, given a
    left-padded prompt of embeddings, leaves as many generated tokens out as the row has padding, so that a report
    changes with its batch.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        ids_BG, scores_BV = input_ids, scores
        seen_BG = scores_BV.gather(1, ids_BG)
        lowered_BG = torch.where(seen_BG < 0, seen_BG * self.penalty, seen_BG / self.penalty)
        return scores_BV.scatter(1, ids_BG, lowered_BG)  # type: ignore[return-value]


def left_pad(embeds_BTE: torch.Tensor, mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The real positions of each row moved to its right end in their order, and the columns no row uses cut off."""
    lengths_B = mask_BT.long().sum(dim=1)
    if not bool((lengths_B > 0).all()):
        raise ValueError("a prompt without a single real position")
    width = int(lengths_B.max())
    order_BT = mask_BT.long().argsort(dim=1, stable=True)[:, -width:]
    embeds_BTE = embeds_BTE.gather(1, order_BT[:, :, None].expand(-1, -1, embeds_BTE.shape[2]))
    return embeds_BTE, mask_BT.long().gather(1, order_BT)


def decode(
    model: PreTrainedModel, tokenizer: ReportTokenizer, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, *,
    decoding: Decoding,
) -> list[Generated]:  # fmt: skip
    """Reports for left-padded prompts, in their order."""
    _check_room(model, prompt=mask_BT.shape[1], new=decoding.max_new_tokens)
    processors = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        processors.append(RepetitionPenalty(decoding.repetition_penalty))
    generate: Any = model.generate  # mixed into the model's class, unknown to PreTrainedModel's type
    with warnings.catch_warnings():
        # that is what we mean: the rule counts generated tokens
        warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size` with `inputs_embeds`")
        ids_BG = generate(
            inputs_embeds=embeds_BTE,
            attention_mask=mask_BT,
            generation_config=generation_config(decoding, tokenizer),
            logits_processor=processors,
        )
    return [_report(row, tokenizer, decoding) for row in ids_BG.tolist()]


def generation_config(decoding: Decoding, tokenizer: ReportTokenizer) -> GenerationConfig:
    """transformers' own settings, complete, so that nothing is left to a default of the checkpoint.

    The repetition penalty is not among them: see RepetitionPenalty.
    """
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens,
        num_beams=decoding.num_beams,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        repetition_penalty=1.0,
        do_sample=False,
        num_return_sequences=1,
        use_cache=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=list(tokenizer.eos_ids),
        pad_token_id=tokenizer.pad_id,
    )
    if decoding.num_beams > 1:  # transformers warns where one beam has them
        config.length_penalty = float(decoding.length_penalty)
        config.early_stopping = decoding.early_stopping
    return config


def _report(row: list[int], tokenizer: ReportTokenizer, decoding: Decoding) -> Generated:
    end = next((i for i, token in enumerate(row) if token in tokenizer.eos_ids), None)
    ids = tuple(row if end is None else row[:end])
    text = tokenizer.decode(ids).strip()
    return Generated(ids[: decoding.max_new_tokens], text, "length" if end is None else "stop")


def _check_room(model: PreTrainedModel, *, prompt: int, new: int) -> None:
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and prompt + new > room:
        raise UserError(f"generation.max_new_tokens={new}: after a prompt of {prompt} positions the report may leave "
                        f"this language model's {room}: give at most {room - prompt}")  # fmt: skip
