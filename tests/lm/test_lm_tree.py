"""Decoding as a tree gives the token ids of transformers' search, in any number of slots."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from interpreted import comparisons_that_are_equal
from tiers import fast_only

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, causal, load_lm, tree_attention, tree_decoding, tree_kernel, tree_search
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts

# B batch, T positions of a prompt, E width
STUDIES, WIDTH, TOKENS = 7, 17, 12
WINDOW = 6  # shorter than most prompts
OPENING = 4  # tokens
PROFILES = {
    "greedy": Decoding(max_new_tokens=TOKENS),
    "greedy penalty": Decoding(max_new_tokens=TOKENS, repetition_penalty=2.0),
    "greedy n-grams": Decoding(max_new_tokens=TOKENS, no_repeat_ngram_size=2, min_new_tokens=8),
    "greedy no token twice": Decoding(max_new_tokens=TOKENS, no_repeat_ngram_size=1),
    "beam3": Decoding(max_new_tokens=TOKENS, num_beams=3),
    "beam3 penalty": Decoding(
        max_new_tokens=TOKENS, num_beams=3, repetition_penalty=2.0, length_penalty=2.0, min_new_tokens=5
    ),
    "beam3 never": Decoding(max_new_tokens=TOKENS, num_beams=3, early_stopping="never", length_penalty=0.0),
    "beam3 early": Decoding(
        max_new_tokens=TOKENS, num_beams=3, early_stopping=True, repetition_penalty=1.2, no_repeat_ngram_size=3
    ),
    "beam5": Decoding(max_new_tokens=TOKENS, num_beams=5, early_stopping="never", length_penalty=1.3),
    "nucleus": Decoding(max_new_tokens=TOKENS, do_sample=True, top_p=0.9, repetition_penalty=1.2),
    "top-k": Decoding(max_new_tokens=TOKENS, min_new_tokens=5, do_sample=True, top_k=20, temperature=1.5, seed=3),
}
FAMILIES = [
    "baichuan2_7b", "baichuan_7b", "chatglm2", "chatglm3", "gemma2", "gemma3", "glm4", "glm4_hf", "internlm",
    "internlm2", "internlm3", "llama2_json", "llama2_spm", "llama3", "mistral", "phi3", "qwen", "qwen2", "qwen3",
    "stablelm", "yi",
]  # fmt: skip

WITH_WINDOWS = ["mistral", "gemma2", "gemma3"]


def prompts_of(lm: LanguageModel) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Prompts of different lengths, with padding at random positions."""
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    embeds_BTE = lm.embed(torch.randint(3, rows, (STUDIES, WIDTH), generator=source)).detach()
    embeds_BTE += 3 * embeds_BTE.std() * torch.randn(embeds_BTE.shape, generator=source)
    mask_BT = torch.zeros(STUDIES, WIDTH, dtype=torch.bool)
    for study in range(STUDIES):
        mask_BT[study, torch.randperm(WIDTH, generator=source)[: WIDTH - 2 * (study % 4)]] = True
    return [f"study {number}" for number in range(STUDIES)], embeds_BTE, mask_BT


def reports(
    lm: LanguageModel,
    decoding: Decoding,
    batches: Iterable[Iterable[int]],
    *,
    slots: int = STUDIES,
    decoder: DecoderName = "tree",
) -> dict[str, Generated]:
    ids, embeds_BTE, mask_BT = prompts_of(lm)
    prompts = (
        Prompts([ids[i] for i in batch], embeds_BTE[[*batch]], mask_BT[[*batch]]) for batch in map(list, batches)
    )
    return dict(lm.stream(prompts, decoding, DecodingPlan(slots=slots, decoder=decoder)))


def narrow_windows(lm: LanguageModel) -> None:
    lm.model.config.sliding_window = WINDOW
    for module in lm.model.modules():
        if module.__dict__.get("sliding_window"):
            module.sliding_window = WINDOW  # type: ignore[assignment]


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


def test_prompts_longer_than_the_first_ones_are_decoded_too(llama: LanguageModel) -> None:
    short_first = [[6, 3], [0, 1, 2], [4, 5]]
    decoding = PROFILES["beam3 penalty"]
    assert reports(llama, decoding, short_first, slots=2) == reports(llama, decoding, [range(STUDIES)])


def test_prompts_are_taken_when_they_are_needed(llama: LanguageModel) -> None:
    """At most as many studies wait as there are slots, and a reader that stops early takes no further ones."""
    taken = []
    ids, embeds_BTE, mask_BT = prompts_of(llama)

    def prompts():
        for number, id in enumerate(ids):
            taken.append(id)
            yield Prompts([id], embeds_BTE[[number]], mask_BT[[number]])

    stream = llama.stream(prompts(), PROFILES["greedy"], DecodingPlan(slots=2))
    next(stream)
    assert len(taken) <= 5
    stream.close()
    assert llama.model.config._attn_implementation == "sdpa"
    assert llama.model.dtype == torch.float32


def test_slots_fill_group_by_group_while_prompts_are_encoded(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 slots 2 get their prompts before the next ones are read, and no token is computed before all have one."""
    events: list[str] = []
    ids, embeds_BTE, mask_BT = prompts_of(llama)
    plain_admit, plain_advance = tree_decoding.TreeDecoder.admit, tree_decoding.TreeDecoder.advance

    def prompts() -> Iterator[Prompts]:
        for number, id in enumerate(ids):
            events.append("read")
            yield Prompts([id], embeds_BTE[[number], :6], mask_BT[[0], :6] | True)

    def admit(self: tree_decoding.TreeDecoder, studies: Sequence[tree_decoding.Waiting]) -> None:
        events.append(f"admit {len(studies)}")
        plain_admit(self, studies)

    def advance(self: tree_decoding.TreeDecoder) -> None:
        events.append("advance")
        plain_advance(self)

    plan = DecodingPlan(slots=4)
    expected = dict(llama.stream(prompts(), PROFILES["beam3"], plan))
    events.clear()
    for module in (tree_decoding, tree_search):
        monkeypatch.setattr(module, "computed_together", lambda *_: 2)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "admit", admit)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert dict(llama.stream(prompts(), PROFILES["beam3"], plan)) == expected
    assert events[:7] == ["read", "read", "admit 2", "read", "read", "admit 2", "advance"]


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
            patched.setattr(causal.CausalLM, "_opening", lambda self: self.embed(torch.tensor(opening)))
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


def test_slots_that_are_too_narrow_are_opened_again_before_the_first_token(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first prompts have one length, and later ones are longer: no study is decoded in a part of the slots."""
    ids, embeds_BTE, _ = prompts_of(llama)
    lengths = [6, 6, 6, 6, 9, 6, WIDTH]
    embeds = [embeds_BTE[[number], :length] for number, length in enumerate(lengths)]
    widths: list[int] = []
    plain = tree_decoding.TreeDecoder.advance

    def advance(self: tree_decoding.TreeDecoder) -> None:
        widths.append(self.width)
        plain(self)

    def written() -> dict[str, Generated]:
        prompts = (
            Prompts([id], embeds_1TE, torch.ones(embeds_1TE.shape[:2], dtype=torch.bool))
            for id, embeds_1TE in zip(ids, embeds, strict=True)
        )
        return dict(llama.stream(prompts, PROFILES["beam3"], DecodingPlan(slots=STUDIES)))

    expected = written()
    for module in (tree_decoding, tree_search):
        monkeypatch.setattr(module, "computed_together", lambda *_: 2)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert written() == expected
    assert set(widths) == {WIDTH}


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


def test_memory_that_is_too_small_halves_the_slots_and_loses_no_study(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reports(llama, PROFILES["beam3"], [range(STUDIES)])
    plain = tree_decoding.TreeDecoder.advance

    def advance(self: tree_decoding.TreeDecoder) -> None:
        if self.slots > 1 and int(self.beams.length_S.max()) > 3:
            raise torch.OutOfMemoryError
        plain(self)

    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert reports(llama, PROFILES["beam3"], [range(STUDIES)]) == expected
    assert llama.decoded == DecodingPlan(slots=1, decoder="tree")


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


def test_a_plan_records_how_studies_were_decoded(llama: LanguageModel) -> None:
    reports(llama, PROFILES["greedy"], [range(STUDIES)], slots=3)
    assert llama.decoded == DecodingPlan(slots=3, decoder="tree")
    reports(llama, PROFILES["greedy"], [range(STUDIES)], decoder="transformers")
    assert llama.decoded == DecodingPlan(slots=STUDIES, decoder="transformers")


def test_slots_that_are_kept_serve_the_next_call(llama: LanguageModel) -> None:
    """Also if two profiles take turns."""
    ids, embeds_BTE, mask_BT = prompts_of(llama)

    def texts() -> list[Generated]:
        return [
            llama.generate(embeds_BTE[[i]], mask_BT[[i]], PROFILES[profile], ids=ids[i : i + 1])[0]
            for i in range(STUDIES)
            for profile in ("beam3", "nucleus")
        ]

    plain = texts()
    llama.keeps_slots = True
    assert texts() == plain
    llama.free_slots()  # type: ignore[attr-defined]


@pytest.mark.skipif(tree_kernel.triton is None, reason="this torch has no triton")
def test_the_kernel_computes_what_its_plain_twin_computes() -> None:
    assert comparisons_that_are_equal("interpreted_kernel.py") == 10
