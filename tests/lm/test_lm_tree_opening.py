"""Positions that all prompts begin with are computed once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from tiers import fast_only
from tree_reports import FAMILIES, PROFILES, STUDIES, WITH_WINDOWS, narrow_windows, prompts_of

from r2gen.lm import LanguageModel, causal, load_lm, tree_attention, tree_decoding
from r2gen.lm.protocol import DecodingPlan, Generated, Prompts

OPENING = 4  # tokens


@pytest.fixture
def llama(golden_folder: Path) -> LanguageModel:
    return load_lm(golden_folder / "llama2_spm")


def check_opening(lm: LanguageModel, profiles: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are the same if the first tokens of all prompts are computed once, and then no prompt computes them."""
    opening = list(range(5, 5 + OPENING))
    ids, embeds_BTE, mask_BT = prompts_of(lm)
    opening_BPE = lm.embed(torch.tensor(opening)).detach().expand(STUDIES, -1, -1)
    embeds_BTE = torch.cat([opening_BPE, embeds_BTE], dim=1)
    mask_BT = torch.cat([torch.ones(STUDIES, OPENING, dtype=torch.bool), mask_BT], dim=1)
    lengths: list[int] = []
    plain = tree_attention._prompt

    def prompt(query_RHTD: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        lengths.append(query_RHTD.shape[2])
        return plain(query_RHTD, *arguments, **options)

    monkeypatch.setattr(tree_attention, "_prompt", prompt)

    def written(profile: str) -> dict[str, Generated]:
        lengths.clear()
        parts = ([*range(4)], [*range(4, STUDIES)])
        prompts = (Prompts([ids[i] for i in part], embeds_BTE[part], mask_BT[part]) for part in parts)
        return dict(lm.stream(prompts, PROFILES[profile], DecodingPlan(slots=3, decoder="tree")))

    for profile in profiles:
        expected = written(profile)
        longest = max(lengths)
        assert min(lengths) > OPENING
        with monkeypatch.context() as patched:
            patched.setattr(causal.CausalLM, "_opening_once", lambda self: self.embed(torch.tensor(opening)))
            assert written(profile) == expected, profile
        assert (min(lengths), max(lengths)) == (OPENING, longest - OPENING)
        assert len({report.ids for report in expected.values()}) > 2


def test_an_opening_that_is_computed_once_changes_no_report(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_opening(llama, ["greedy penalty", "beam3", "beam3 never", "nucleus"], monkeypatch)


@needs_published
@pytest.mark.parametrize("family", fast_only(FAMILIES, "chatglm3", "gemma2", "mistral"))
def test_the_opening_of_every_family_is_computed_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load_lm(PUBLISHED / family)
    if family in WITH_WINDOWS:
        narrow_windows(lm)
    check_opening(lm, ["greedy penalty", "beam3 never"], monkeypatch)


def test_empty_slots_keep_the_opening(llama: LanguageModel) -> None:
    opening_PE = llama.embed(torch.arange(5, 5 + OPENING)).detach()
    prompt_TE = torch.cat([opening_PE, llama.embed(torch.arange(20, 25)).detach()])
    with tree_attention.attending_by(llama.model, tree_attention.NAME), torch.no_grad():
        decoder = tree_decoding.TreeDecoder(
            llama.model, llama.tokenizer, PROFILES["beam3"], slots=3, width=9, opening_PE=opening_PE
        )
        decoder.admit([tree_decoding.Waiting("a study", prompt_TE)])
        for _ in range(4):
            decoder.advance()
    for stored_SNCD in (stored for layer in decoder.tree.layers.values() for stored in layer):
        opening_SNPD = stored_SNCD[:, :, :OPENING]
        assert torch.equal(opening_SNPD, opening_SNPD[:1].expand_as(opening_SNPD))
        assert opening_SNPD.any()
