"""A sampled report has the probabilities of the model and depends on seed and study only; contrastive search."""

import pytest
import torch
from torch.nn import functional as F

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel

# B batch, T positions of the prompt, S those so far, E width, V vocabulary
DRAWS = 2000


def test_a_sampled_token_has_the_probabilities_of_the_model(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    prompt_TE = prompts[0][1]
    many_BTE = prompt_TE.expand(DRAWS, -1, -1)
    ids = [str(i) for i in range(DRAWS)]
    with torch.no_grad():
        logits_V = sdpa_lm.model(inputs_embeds=prompt_TE[None]).logits[0, -1].double()
    for settings, temperature, top_p in (({}, 1.0, 1.0), ({"temperature": 2.0, "top_p": 0.7}, 2.0, 0.7)):
        odds_V = (logits_V / temperature).softmax(dim=-1)
        ordered = odds_V.sort(descending=True)
        likely = ordered.indices[: int((ordered.values.cumsum(0) < top_p).sum()) + 1]
        truth_V = torch.zeros_like(odds_V).scatter(0, likely, odds_V[likely] / odds_V[likely].sum())
        decoding = Decoding(max_new_tokens=1, min_new_tokens=0, do_sample=True, **settings)  # type: ignore[arg-type]
        reports = sdpa_lm.generate(many_BTE, torch.ones(many_BTE.shape[:2]), decoding, ids=ids)
        drawn = [report.ids[0] if report.ids else sdpa_lm.tokenizer.eos_id for report in reports]
        share_V = torch.bincount(torch.tensor(drawn), minlength=len(odds_V)) / DRAWS
        assert set(drawn) <= set(likely.tolist())
        # the mean absolute error of a share is about .8 standard deviations
        assert (share_V - truth_V).abs().sum() < 1.2 * (truth_V * (1 - truth_V) / DRAWS).sqrt().sum()


def test_a_sampled_report_depends_on_seed_and_study_only(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    prompt_BTE = prompts[0][1].expand(4, -1, -1)

    def texts(ids: list[str], seed: int) -> list[str]:
        decoding = Decoding(max_new_tokens=12, do_sample=True, seed=seed)
        return [generated.text for generated in sdpa_lm.generate(prompt_BTE, torch.ones(4, 14), decoding, ids=ids)]

    first = texts(["a", "b", "c", "a"], seed=0)
    assert len(set(first)) == 3
    assert first[0] == first[3]
    torch.manual_seed(99)  # torch's global generator is not used
    assert texts(["c", "a", "b", "b"], seed=0) == [first[2], first[0], first[1], first[1]]
    assert set(texts(["a", "b", "c", "a"], seed=1)).isdisjoint(first)


def test_sampling_without_the_ids_of_the_studies_is_refused(sdpa_lm: LanguageModel) -> None:
    with pytest.raises(ValueError, match="sampling needs the id of each study"):
        sdpa_lm.generate(torch.zeros(2, 3, 32), torch.ones(2, 3), Decoding(max_new_tokens=2, do_sample=True))


@torch.no_grad()
def contrastive_by_hand(lm: LanguageModel, prompt_TE: torch.Tensor, *, new: int, alpha: float, k: int) -> list[int]:
    """Su et al. (2022), equation 5, candidate by candidate, without cache, batch or padding."""
    ids: list[int] = []

    def run(tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        embeds_BSE = torch.cat([prompt_TE[None], lm.embed(torch.tensor([tokens], dtype=torch.long))], dim=1)
        output = lm.model(inputs_embeds=embeds_BSE, output_hidden_states=True)
        return output.logits[0, -1].softmax(dim=-1), output.hidden_states[-1][0]

    for _ in range(new):
        odds_V, _ = run(ids)
        best = []
        for token in odds_V.topk(k).indices.tolist():
            states_SE = run([*ids, token])[1]
            likeness = F.cosine_similarity(states_SE[:-1], states_SE[-1:]).max()
            best.append((float((1 - alpha) * odds_V[token] - alpha * likeness), token))
        ids.append(max(best)[1])
        if ids[-1] == lm.tokenizer.eos_id:
            return ids[:-1]
    return ids


@pytest.mark.parametrize(("alpha", "k"), [(0.6, 4), (0.2, 3)])
def test_contrastive_search_is_that_of_the_paper(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor], alpha: float, k: int
) -> None:
    prompt_BTE, mask_BT = prompts[0][:4], prompts[1][:4]
    reports = sdpa_lm.generate(prompt_BTE, mask_BT, Decoding(max_new_tokens=8, penalty_alpha=alpha, top_k=k))
    for row, report in enumerate(reports):
        by_hand = contrastive_by_hand(sdpa_lm, prompt_BTE[row, mask_BT[row]], new=8, alpha=alpha, k=k)
        assert list(report.ids) == by_hand
    greedy = sdpa_lm.generate(prompt_BTE, mask_BT, Decoding(max_new_tokens=8))
    assert greedy != reports
