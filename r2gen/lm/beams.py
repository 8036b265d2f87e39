"""The choice of the next token of every study, on the device: greedy search, sampling and beam search.

The rules are those of transformers' generate() (5.23, generation/utils.py), so that token ids are equal, with two
differences: no step waits for the host, and a study ends by itself instead of with the last study of its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch.nn import functional as F
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from r2gen.config.decoding import Decoding
from r2gen.lm.stop_texts import StopTexts
from r2gen.lm.tokenizer import ReportTokenizer

# S studies, K beams, G tokens of a report, V vocabulary, J candidates of a study
LOWEST = -1.0e9  # transformers' score of what must not be chosen


@dataclass
class Beams:
    """The beams of S studies after `length_S` tokens. `finished` are the best ended reports, of beam search only."""

    ids_SKG: torch.Tensor
    ancestors_SKG: torch.Tensor  # the beam in which each earlier token of a beam was fed
    score_SK: torch.Tensor  # sum of log-probabilities
    finished_ids_SKG: torch.Tensor
    finished_score_SK: torch.Tensor
    is_finished_SK: torch.Tensor
    improvable_S: torch.Tensor  # an unfinished beam may still be better than a finished one
    length_S: torch.Tensor
    live_S: torch.Tensor

    @classmethod
    def start(cls, studies: int, *, beams: int, tokens: int, pad: int, device: torch.device) -> "Beams":
        """Beams without a token. Only the first one has a chance, so that the first tokens differ."""
        ids_SKG = torch.full((studies, beams, tokens), pad, device=device)
        score_SK = torch.zeros(studies, beams, device=device)
        score_SK[:, 1:] = LOWEST
        return cls(
            ids_SKG=ids_SKG,
            ancestors_SKG=torch.zeros(studies, beams, tokens, dtype=torch.int16, device=device),
            score_SK=score_SK,
            finished_ids_SKG=ids_SKG.clone(),
            finished_score_SK=torch.full((studies, beams), LOWEST, device=device),
            is_finished_SK=torch.zeros(studies, beams, dtype=torch.bool, device=device),
            improvable_S=torch.ones(studies, dtype=torch.bool, device=device),
            length_S=torch.zeros(studies, dtype=torch.long, device=device),
            live_S=torch.ones(studies, dtype=torch.bool, device=device),
        )

    def last_SK(self) -> torch.Tensor:
        """The last token of each beam."""
        index_SK1 = (self.length_S - 1).clamp(min=0)[:, None, None].expand(-1, self.ids_SKG.shape[1], 1)
        return self.ids_SKG.gather(2, index_SK1)[:, :, 0]

    def put(self, slots: torch.Tensor, others: "Beams") -> None:
        """Replace the studies in these slots."""
        for item in fields(self):
            getattr(self, item.name)[slots] = getattr(others, item.name)

    def update(self, new: "Beams") -> None:
        """Take over the state of the live studies, in place; the others keep theirs."""
        live_S = self.live_S.clone()
        for item in fields(self):
            mine, other = getattr(self, item.name), getattr(new, item.name)
            mine.copy_(torch.where(live_S.view(-1, *[1] * (mine.dim() - 1)), other, mine))

    def best_SG(self) -> torch.Tensor:
        """The ids of each study's best report, which may have padding behind its EOS token."""
        ended_S1 = self.is_finished_SK.any(dim=1)[:, None]
        return torch.where(ended_S1, self.finished_ids_SKG[:, 0], self.ids_SKG[:, 0])


class TokenChoice:
    """Chooses the next tokens by a decoding profile, by its rules for scores and by its way of searching."""

    def __init__(self, decoding: Decoding, tokenizer: ReportTokenizer, *, device: torch.device) -> None:
        self.decoding = decoding
        self.eos_E = torch.tensor(tokenizer.eos_ids, device=device)
        self.never_N = torch.tensor(tokenizer.never_ids, device=device, dtype=torch.long)
        self.candidates = max(2, 1 + len(tokenizer.eos_ids)) * decoding.num_beams
        self.warpers = sampling_warpers(decoding)
        self.stops = StopTexts(tokenizer, skip=0) if tokenizer.stop_texts else None

    def __call__(self, beams: Beams, logits_SKV: torch.Tensor, noise_SV: torch.Tensor | None = None) -> Beams:
        """The beams with one more token each. `noise_SV` is the Gumbel noise of sampling."""
        if self.decoding.num_beams > 1:
            return self._beam_search(beams, logits_SKV.float())
        return self._one_beam(beams, logits_SKV.float(), noise_SV)

    def _one_beam(self, beams: Beams, scores_SKV: torch.Tensor, noise_SV: torch.Tensor | None) -> Beams:
        scores_SV = self._rules(beams, scores_SKV)[:, 0]
        for warp in self.warpers:
            scores_SV = warp(None, scores_SV)
        if noise_SV is not None:
            scores_SV = scores_SV + noise_SV
        token_S = scores_SV.argmax(dim=-1)
        ids_SKG = _with_token(beams.ids_SKG, token_S[:, None], beams.length_S)
        length_S = beams.length_S + 1
        ends_S = self._is_eos(token_S) | (length_S >= self.decoding.max_new_tokens)
        if self.stops is not None:
            ends_S |= self._has_stop_text(ids_SKG)[:, 0]
        return replace(beams, ids_SKG=ids_SKG, length_S=length_S, live_S=~ends_S)

    def _beam_search(self, beams: Beams, logits_SKV: torch.Tensor) -> Beams:
        decoding, K = self.decoding, self.decoding.num_beams
        scores_SKV = self._rules(beams, F.log_softmax(logits_SKV, dim=-1)) + beams.score_SK[:, :, None]
        total_SJ, index_SJ = scores_SKV.flatten(1).topk(self.candidates)
        parent_SJ, token_SJ = index_SJ // logits_SKV.shape[2], index_SJ % logits_SKV.shape[2]
        candidates_SJG = _with_token(_take(beams.ids_SKG, parent_SJ), token_SJ, beams.length_S)
        length_S = beams.length_S + 1
        ends_SJ = self._is_eos(token_SJ) | (length_S >= decoding.max_new_tokens)[:, None]
        if self.stops is not None:
            ends_SJ |= self._has_stop_text(candidates_SJG)

        running_SJ = total_SJ + ends_SJ * LOWEST
        next_SK = running_SJ.topk(K)[1]
        score_SK, parent_SK = running_SJ.gather(1, next_SK), parent_SJ.gather(1, next_SK)

        full_S = beams.is_finished_SK.all(dim=1) & (decoding.early_stopping is True)
        ended_SJ = ends_SJ & (torch.arange(self.candidates, device=ends_SJ.device) < K)
        ended_score_SJ = total_SJ / self._penalised(length_S)[:, None]
        ended_score_SJ = ended_score_SJ + (full_S * LOWEST)[:, None] + (~beams.improvable_S * LOWEST)[:, None]
        ended_score_SJ = ended_score_SJ + ~ended_SJ * LOWEST
        merged_SM = torch.cat([beams.finished_score_SK, ended_score_SJ], dim=1)
        best_SK = merged_SM.topk(K)[1]
        finished_score_SK = merged_SM.gather(1, best_SK)
        is_finished_SK = torch.cat([beams.is_finished_SK, ended_SJ], dim=1).gather(1, best_SK)

        hoped_S = length_S
        if decoding.early_stopping == "never" and decoding.length_penalty > 0:
            hoped_S = torch.full_like(length_S, decoding.max_new_tokens)
        hoped_score_S = score_SK[:, 0] / self._penalised(hoped_S)
        worst_SK = torch.where(is_finished_SK, finished_score_SK.min(dim=1, keepdim=True)[0], LOWEST)
        improvable_S = beams.improvable_S & (hoped_score_S[:, None] > worst_SK).any(dim=1)
        done_S = is_finished_SK.all(dim=1) & (decoding.early_stopping is True)
        position_G = torch.arange(beams.ids_SKG.shape[2], device=length_S.device)
        own_SKG = (position_G == beams.length_S[:, None])[:, None]
        own_K = torch.arange(K, dtype=torch.int16, device=length_S.device)[:, None]
        return Beams(
            ids_SKG=_take(candidates_SJG, next_SK),
            ancestors_SKG=torch.where(own_SKG, own_K, _take(beams.ancestors_SKG, parent_SK)),
            score_SK=score_SK,
            finished_ids_SKG=_take(torch.cat([beams.finished_ids_SKG, candidates_SJG], dim=1), best_SK),
            finished_score_SK=finished_score_SK,
            is_finished_SK=is_finished_SK,
            improvable_S=improvable_S,
            length_S=length_S,
            live_S=improvable_S & ~done_S & ~ends_SJ.all(dim=1),
        )

    def _is_eos(self, token: torch.Tensor) -> torch.Tensor:
        return (token[..., None] == self.eos_E).any(dim=-1)  # torch.isin may sort, which waits for the device

    def _has_stop_text(self, ids_SJG: torch.Tensor) -> torch.Tensor:
        assert self.stops is not None
        return self.stops(ids_SJG.flatten(0, 1), None).view(ids_SJG.shape[:2])

    def _penalised(self, length_S: torch.Tensor) -> torch.Tensor:
        """length ** length_penalty in fp32, rounded from fp64 as transformers' Python float is."""
        return (length_S.double() ** float(self.decoding.length_penalty)).float()

    def _rules(self, beams: Beams, scores_SKV: torch.Tensor) -> torch.Tensor:
        """The scores without tokens that are never generated, after the repetition penalty, the n-gram rule and the
        shortest length."""
        decoding = self.decoding
        if len(self.never_N):
            scores_SKV = scores_SKV.index_fill(2, self.never_N, -torch.inf)
        if decoding.repetition_penalty != 1:
            scores_SKV = self._repetition_penalty(beams, scores_SKV)
        if decoding.no_repeat_ngram_size > 0:
            scores_SKV = self._no_repeated_ngram(beams, scores_SKV)
        if decoding.min_new_tokens > 0:
            short_S = beams.length_S < decoding.min_new_tokens
            is_eos_V = torch.zeros(scores_SKV.shape[2], dtype=torch.bool, device=scores_SKV.device)
            is_eos_V = is_eos_V.index_fill(0, self.eos_E, True)
            scores_SKV = scores_SKV.masked_fill(short_S[:, None, None] & is_eos_V, -torch.inf)
        return scores_SKV

    def _repetition_penalty(self, beams: Beams, scores_SKV: torch.Tensor) -> torch.Tensor:
        """See RepetitionPenalty in decoding.py. Columns without a token repeat the first one, which changes nothing."""
        penalty, ids_SKG = self.decoding.repetition_penalty, beams.ids_SKG
        generated_SG = torch.arange(ids_SKG.shape[2], device=ids_SKG.device) < beams.length_S[:, None]
        ids_SKG = torch.where(generated_SG[:, None], ids_SKG, ids_SKG[:, :, :1])
        seen_SKG = scores_SKV.gather(2, ids_SKG)
        lowered_SKG = torch.where(seen_SKG < 0, seen_SKG * penalty, seen_SKG / penalty)
        lowered_SKG = torch.where((beams.length_S > 0)[:, None, None], lowered_SKG, seen_SKG)
        return scores_SKV.scatter(2, ids_SKG, lowered_SKG)

    def _no_repeated_ngram(self, beams: Beams, scores_SKV: torch.Tensor) -> torch.Tensor:
        """Forbid each token that would complete an n-gram which the beam contains already."""
        size, ids_SKG, vocabulary = self.decoding.no_repeat_ngram_size, beams.ids_SKG, scores_SKV.shape[2]
        if size > ids_SKG.shape[2]:
            return scores_SKV
        windows_SKWN = ids_SKG.unfold(2, size, 1)
        offset_N = torch.arange(1 - size, 0, device=ids_SKG.device)
        index_SN = (beams.length_S[:, None] + offset_N).clamp(min=0)
        last_SKN = ids_SKG.gather(2, index_SN[:, None].expand(-1, ids_SKG.shape[1], -1))
        same_SKW = (windows_SKWN[..., :-1] == last_SKN[:, :, None]).all(dim=-1)
        end_W = torch.arange(size - 1, ids_SKG.shape[2], device=ids_SKG.device)
        same_SKW &= (end_W < beams.length_S[:, None])[:, None]
        forbidden_SKW = torch.where(same_SKW, windows_SKWN[..., -1], vocabulary)
        table_SKV = scores_SKV.new_zeros(*scores_SKV.shape[:2], vocabulary + 1, dtype=torch.bool)
        table_SKV.scatter_(2, forbidden_SKW, torch.ones_like(same_SKW))
        return scores_SKV.masked_fill(table_SKV[..., :-1], -torch.inf)


def sampling_warpers(
    decoding: Decoding,
) -> Sequence[TemperatureLogitsWarper | TopKLogitsWarper | TopPLogitsWarper]:
    """transformers' own filters of sampling, in its order."""
    warpers: list[TemperatureLogitsWarper | TopKLogitsWarper | TopPLogitsWarper] = []
    if decoding.do_sample and decoding.temperature is not None:
        warpers.append(TemperatureLogitsWarper(float(decoding.temperature)))
    if decoding.do_sample and decoding.top_k is not None:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.do_sample and decoding.top_p is not None:
        warpers.append(TopPLogitsWarper(float(decoding.top_p)))
    return warpers


def _take(values_SK: torch.Tensor, index_SJ: torch.Tensor) -> torch.Tensor:
    """values[s, index[s, j]] for each study s."""
    rest = values_SK.shape[2:]
    return values_SK.gather(1, index_SJ.view(*index_SJ.shape, *[1] * len(rest)).expand(*index_SJ.shape, *rest))


def _with_token(ids_SKG: torch.Tensor, token_SK: torch.Tensor, length_S: torch.Tensor) -> torch.Tensor:
    """The ids with a token at position `length`, or unchanged where they are full."""
    here_SG = torch.arange(ids_SKG.shape[2], device=ids_SKG.device) == length_S[:, None]
    return torch.where(here_SG[:, None], token_SK[:, :, None], ids_SKG)
