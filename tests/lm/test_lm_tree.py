"""Decoding as a tree gives the token ids of transformers' search, in any number of slots."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from interpreted import comparisons_that_are_equal
from tiers import fast_only
from tree_reports import FAMILIES, PROFILES, STUDIES, WITH_WINDOWS, narrow_windows, reports

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, load_lm, tree_decoding, tree_kernel
from r2gen.lm.protocol import DecoderName


def let_reports_end(lm: LanguageModel) -> None:
    """Make some of the tokens that the model writes end a report, so that reports have different lengths."""
    written = reports(lm, PROFILES["beam3"], [range(STUDIES)], decoder="transformers").values()
    tokens = sorted({token for report in written for token in report.ids})
    lm.tokenizer.eos_ids = (*lm.tokenizer.eos_ids, *tokens[:: max(1, len(tokens) // 3)][:3])


def check(lm: LanguageModel, profiles: Iterable[str]) -> None:
    let_reports_end(lm)
    for profile in profiles:
        expected = reports(lm, PROFILES[profile], [range(STUDIES)], decoder="transformers")
        assert reports(lm, PROFILES[profile], [range(STUDIES)]) == expected, profile
        assert reports(lm, PROFILES[profile], [range(4), range(4, 7)], slots=3) == expected, profile
        assert reports(lm, PROFILES[profile], [range(5, 7), range(5)], slots=2) == expected, profile


@pytest.fixture
def llama(golden_folder: Path) -> LanguageModel:
    return load_lm(golden_folder / "llama2_spm")


def test_token_ids_are_those_of_transformers(llama: LanguageModel) -> None:
    check(llama, PROFILES)
    assert llama.decoder_for(PROFILES["beam3"]) == "tree"


@needs_published
@pytest.mark.parametrize("family", fast_only(FAMILIES, "gemma2", "qwen", "stablelm"))
def test_token_ids_of_every_family_are_those_of_transformers(family: str) -> None:
    check(load_lm(PUBLISHED / family), ["greedy penalty", "beam3 penalty", "beam3 early", "nucleus"])


@needs_published
@pytest.mark.parametrize("family", fast_only(WITH_WINDOWS, "mistral"))
def test_sliding_windows_look_at_positions_and_not_at_columns(family: str) -> None:
    lm = load_lm(PUBLISHED / family)
    narrow_windows(lm)
    check(lm, ["beam3", "beam3 penalty"])


@needs_published
@pytest.mark.parametrize("family", ["bloom", "baichuan_13b"])
def test_alibi_is_left_to_transformers(family: str) -> None:
    lm = load_lm(PUBLISHED / family)
    assert lm.decoder_for(PROFILES["beam3"]) == "transformers"
    with pytest.raises(UserError, match=r"^evaluate\.decoder=tree does not support this language model"):
        lm.decoder_for(PROFILES["beam3"], "tree")


def test_attention_that_needs_more_than_positions_is_found(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """A bias that only the model's own attention has, as a family that nobody has tried yet may have."""
    own = torch.nn.functional.scaled_dot_product_attention

    def biased(query, key, value, attn_mask=None, **options):
        if attn_mask is None and query.shape[2] == key.shape[2] and options.get("is_causal") and query.shape[2] > 7:
            return 2 * own(query, key, value, **options)
        return own(query, key, value, attn_mask=attn_mask, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", biased)
    assert not tree_decoding.agrees_with_model(llama.model, llama.tokenizer)


def test_contrastive_search_is_left_to_transformers(llama: LanguageModel) -> None:
    contrastive = Decoding(max_new_tokens=4, penalty_alpha=0.6, top_k=4)
    assert llama.decoder_for(contrastive) == "transformers"
    assert len(reports(llama, contrastive, [range(STUDIES)], decoder="auto")) == STUDIES


@pytest.mark.parametrize("profile", ["greedy", "beam3", "nucleus"])
@pytest.mark.parametrize("decoder", ["tree", "transformers"])
def test_a_stop_text_ends_a_report_at_the_token_that_completes_it(
    llama: LanguageModel, profile: str, decoder: DecoderName
) -> None:
    free = reports(llama, PROFILES[profile], [range(STUDIES)])
    letters = Counter("".join(report.text for report in free.values()).replace(" ", ""))
    stop = letters.most_common(1)[0][0]
    llama.tokenizer.stop_texts = (stop,)
    stopped = reports(llama, PROFILES[profile], [range(STUDIES)], slots=3, decoder=decoder)
    assert not any(stop in report.text for report in stopped.values())
    assert stopped == reports(llama, PROFILES[profile], [range(STUDIES)], decoder="tree")
    ends = [report.ids for report in stopped.values() if stop in llama.tokenizer.decode(report.ids)]
    assert len(ends) > 2
    assert not any(stop in llama.tokenizer.decode(ids[:-1]) for ids in ends)


@pytest.mark.skipif(tree_kernel.triton is None, reason="this torch has no triton")
def test_the_kernel_computes_what_its_plain_twin_computes() -> None:
    assert comparisons_that_are_equal("interpreted_kernel.py") == 10
