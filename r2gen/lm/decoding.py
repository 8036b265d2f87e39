"""Decoding by transformers' generate(), corrected so that a report does not depend on its batch."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
)

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm.beams import sampling_warpers
from r2gen.lm.contrastive import contrastive_search
from r2gen.lm.protocol import Generated
from r2gen.lm.stop_texts import StopTexts
from r2gen.lm.study_noise import BatchNoise
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T tokens of the prompt, G generated tokens, E width of the language model, V vocabulary


class RepetitionPenalty(LogitsProcessor):
    """The repetition penalty of Keskar et al. (2019): it divides the scores of tokens that were generated already, and
    multiplies negative ones.

    Only generated tokens count, as in R2GenGPT, whose prompt is embeddings. With a left-padded prompt of embeddings the
    class of transformers 5.23 ignores as many generated tokens as the prompt has padding, so that a report changes with
    its batch. `skip` is the number of columns before the first generated token (1 for an encoder-decoder).
    """

    def __init__(self, penalty: float, *, skip: int) -> None:
        self.penalty = penalty
        self.skip = skip

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        ids_BG, scores_BV = input_ids[:, self.skip :], scores
        seen_BG = scores_BV.gather(1, ids_BG)
        lowered_BG = torch.where(seen_BG < 0, seen_BG * self.penalty, seen_BG / self.penalty)
        return scores_BV.scatter(1, ids_BG, lowered_BG)  # type: ignore[return-value]


def decode(
    model: PreTrainedModel,
    tokenizer: ReportTokenizer,
    embeds_BTE: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    decoding: Decoding,
    ids: Sequence[str] = (),
    start_id: int | None = None,
) -> list[Generated]:
    """Generate a report for each prompt; the padding must already be on the side that the model needs.

    `start_id` is the token with which an encoder-decoder begins a report.
    """
    skip = 0 if start_id is None else 1
    config = generation_config(decoding, tokenizer, start_id=start_id)
    processors = _processors(decoding, tokenizer, ids, device=embeds_BTE.device, skip=skip, rows=len(embeds_BTE))
    if decoding.penalty_alpha is not None and decoding.top_k is not None:
        ids_BG = contrastive_search(
            model,
            embeds_BTE,
            mask_BT,
            config=config,
            processors=processors,
            alpha=decoding.penalty_alpha,
            top_k=decoding.top_k,
        )
    else:
        stops = StoppingCriteriaList([StopTexts(tokenizer, skip=skip)] if tokenizer.stop_texts else [])
        ids_BG = _generate(model, embeds_BTE, mask_BT, config=config, processors=processors, stops=stops)[:, skip:]
    return [report(row, tokenizer, decoding) for row in ids_BG.tolist()]


def _generate(
    model: PreTrainedModel,
    embeds_BTE: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    config: GenerationConfig,
    processors: LogitsProcessorList,
    stops: StoppingCriteriaList,
) -> torch.Tensor:
    """The ids [B, G] of transformers' generate(), which begin with the start token of an encoder-decoder."""
    generate: Any = model.generate  # from a mixin that the annotation of PreTrainedModel lacks
    # transformers 5.23 gives an encoder-decoder's cache the depth of the encoder, and fails if the decoder is deeper
    start_id = config.decoder_start_token_id
    cache = {} if start_id is None else {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}
    with warnings.catch_warnings():
        # the n-gram rule is meant to count generated tokens only
        warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size` with `inputs_embeds`")
        ids_BG: torch.Tensor = generate(
            inputs_embeds=embeds_BTE,
            attention_mask=mask_BT,
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=stops,
            **cache,
        )
    return ids_BG


def _processors(
    decoding: Decoding, tokenizer: ReportTokenizer, ids: Sequence[str], *, device: torch.device, skip: int, rows: int
) -> LogitsProcessorList:
    """The logits processors besides transformers' own n-gram and length rules, in transformers' order."""
    processors = LogitsProcessorList()
    if tokenizer.never_ids:
        processors.append(SuppressTokensLogitsProcessor(list(tokenizer.never_ids), device=str(device)))
    if decoding.repetition_penalty != 1:
        processors.append(RepetitionPenalty(decoding.repetition_penalty, skip=skip))
    if decoding.do_sample:
        check_ids(decoding, ids, prompts=rows)
        processors.extend(sampling_warpers(decoding))
        processors.append(BatchNoise(ids, seed=decoding.seed, device=device))
    return processors


def generation_config(decoding: Decoding, tokenizer: ReportTokenizer, *, start_id: int | None) -> GenerationConfig:
    """transformers' settings, complete, so that no default of the checkpoint applies.

    They leave out the repetition penalty and sampling, for which see RepetitionPenalty and BatchNoise.
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
        decoder_start_token_id=start_id,
    )
    if decoding.num_beams > 1:  # with one beam transformers warns about them
        config.length_penalty = float(decoding.length_penalty)
        config.early_stopping = decoding.early_stopping
    return config


def report(row: list[int], tokenizer: ReportTokenizer, decoding: Decoding) -> Generated:
    """The report of decoded ids, which may have an EOS token or a stop text, and anything behind it."""
    end = next((i for i, token in enumerate(row) if token in tokenizer.eos_ids), None)
    ids = tuple(row if end is None else row[:end])[: decoding.max_new_tokens]
    text, stopped = tokenizer.cut(tokenizer.decode(ids))
    if stopped:  # keep the tokens up to the one that completed the stop text
        ids = next(ids[:n] for n in range(1, len(ids) + 1) if tokenizer.cut(tokenizer.decode(ids[:n]))[1])
    return Generated(ids, text.strip(), "stop" if stopped or end is not None else "length")


def check_ids(decoding: Decoding, ids: Sequence[str], *, prompts: int) -> None:
    """Raise ValueError if sampling lacks the ids of the studies."""
    if decoding.do_sample and len(ids) != prompts:
        raise ValueError(f"sampling needs the id of each study: {prompts} prompts, {len(ids)} ids")


def check_room(model: PreTrainedModel, *, prompt: int, new: int) -> None:
    """Raise UserError if prompt and report may exceed the model's positions."""
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and prompt + new > room:
        raise UserError(
            f"generation.max_new_tokens={new}: after a prompt of {prompt} positions the report may exceed the "
            f"{room} positions of this language model: give at most {room - prompt}"
        )
