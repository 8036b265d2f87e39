"""Positions that every prompt begins with are computed once, and the loss and its gradients stay the same."""

import pytest
import torch
from golden_checkpoints import needs_published
from lm_losses import loss_and_gradient_of, published_lm, small_lm
from tiers import fast_only

from r2gen.data.collate import NO_TARGET
from r2gen.lm import causal, packed_attention
from r2gen.lm.causal import CausalLM
from r2gen.lm.prompt import Place, PromptIds
from r2gen.lm.rows import layout

# B studies, T positions of the prompt, L tokens of the report, E width
OPENING, PROMPTS, REPORTS, WIDTH, WINDOW = (5, 9, 4, 7), (7, 16, 9, 5), (5, 3, 8, 6), 16, 6
FAMILIES = [
    "baichuan2_7b", "baichuan_7b", "chatglm2", "chatglm3", "gemma3", "glm4", "glm4_hf", "internlm", "internlm2",
    "internlm3", "llama2_json", "llama2_spm", "llama3", "mistral", "phi3", "qwen", "qwen2", "qwen3", "yi",
]  # fmt: skip


@pytest.fixture(scope="module", params=fast_only(FAMILIES, "chatglm3", "gemma3", "mistral"))
def published(request: pytest.FixtureRequest) -> CausalLM:
    return published_lm(request.param, window=WINDOW)  # shorter than the prompts


@pytest.fixture
def llama() -> CausalLM:
    return small_lm()


def batch(lm: CausalLM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts that begin with OPENING and have holes behind it, and reports of different lengths."""
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    prompt_BT = torch.randint(3, rows, (len(PROMPTS), WIDTH), generator=source)
    prompt_BT[:, : len(OPENING)] = torch.tensor(OPENING)
    mask_BT = torch.zeros(len(PROMPTS), WIDTH, dtype=torch.bool)
    report_BL = torch.full((len(REPORTS), max(REPORTS) + 2), NO_TARGET)
    for row, (prompt, report) in enumerate(zip(PROMPTS, REPORTS, strict=True)):
        others = len(OPENING) + torch.randperm(WIDTH - len(OPENING), generator=source)
        mask_BT[row, : len(OPENING)] = True
        mask_BT[row, others[: prompt - len(OPENING)]] = True
        report_BL[row, :report] = torch.randint(3, rows, (report,), generator=source)
    return lm.embed(prompt_BT).detach(), mask_BT, report_BL


def loss_and_gradient(lm: CausalLM) -> tuple[torch.Tensor, torch.Tensor]:
    return loss_and_gradient_of(lm, *batch(lm))


def shares_opening(lm: CausalLM) -> bool:
    """Whether the row of the loss follows an opening, whose keys and values are kept."""
    seen: list[bool] = []
    hook = lm.model.get_decoder().register_forward_pre_hook(
        lambda _, __, options: seen.append(options.get("after_opening", False)), with_kwargs=True
    )
    with torch.no_grad():
        lm.loss(*batch(lm))
    hook.remove()
    return any(seen)


@needs_published
def test_loss_and_gradients_are_those_of_whole_prompts(published: CausalLM) -> None:
    lm = published
    lm.model.requires_grad_(False)
    lm.packs, lm.opening = False, ()
    rows_B, rows_BTE = loss_and_gradient(lm)
    lm.packs, lm.opening = True, OPENING
    for _ in range(2):  # the second time with keys and values that were kept
        opened_B, opened_BTE = loss_and_gradient(lm)
        torch.testing.assert_close(opened_B, rows_B, rtol=1e-5, atol=0)
        assert not opened_BTE[:, : len(OPENING)].any()
        behind = rows_BTE[:, len(OPENING) :]
        atol = float(behind.abs().max()) * 1e-5
        torch.testing.assert_close(opened_BTE[:, len(OPENING) :], behind, rtol=1e-3, atol=atol)


def test_positions_of_the_opening_are_not_in_the_row() -> None:
    mask_BT = torch.tensor([[True, True, False, True], [True, True, True, False]])
    report_BL = torch.tensor([[4, 5, NO_TARGET], [6, NO_TARGET, NO_TARGET]])
    plan = layout(mask_BT, report_BL, packed=True, opening=2)
    assert plan.source_RS[0, :3].tolist() == [3, 8, 6]
    assert plan.before_M.tolist() == [0, 1, 2]
    assert plan.position_RS is not None
    assert plan.position_RS[0, :3].tolist() == [2, 3, 2]
    assert plan.starts is not None
    assert plan.starts.tolist() == [0, 2, 3, 64]
    assert plan.packing()["after_opening"]


def test_a_loss_in_inference_mode_leaves_keys_that_a_training_can_use(llama: CausalLM) -> None:
    llama.model.requires_grad_(False)
    llama.packs, llama.opening = True, OPENING
    with torch.inference_mode():
        expected_B = llama.loss(*batch(llama))
    loss_B, gradient_BTE = loss_and_gradient(llama)
    torch.testing.assert_close(loss_B, expected_B.clone())
    assert gradient_BTE[:, len(OPENING) :].any()


def test_the_opening_is_computed_in_each_step_where_it_may_change(
    llama: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.packs, llama.opening = True, OPENING
    assert not shares_opening(llama)  # all of it trains
    llama.model.requires_grad_(False)
    assert shares_opening(llama)
    llama.dropout = 0.5
    assert shares_opening(llama)  # in eval() there is no dropout
    llama.model.train()
    assert not shares_opening(llama)
    llama.opening = ()
    llama.dropout = 0.0
    assert not shares_opening(llama)


def test_only_kernels_that_know_an_opening_get_one(llama: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "_own_kernels", False)
    assert not packed_attention.follows_opening(llama.model, torch.device("cuda"), 128)
    monkeypatch.setattr(packed_attention, "_own_kernels", True)
    llama.model.config.head_dim = 64
    assert packed_attention.follows_opening(llama.model, torch.device("cuda"), 128)
    assert not packed_attention.follows_opening(llama.model, torch.device("cuda"), 1024)


def test_ranks_compute_the_opening_at_once_also_if_the_studies_of_some_are_too_long(
    llama: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ZeRO 3 they call the layers equally often."""
    llama.model.requires_grad_(False)
    llama.packs, llama.opening = True, OPENING
    longest = max(prompt + report for prompt, report in zip(PROMPTS, REPORTS, strict=True))
    calls: list[int] = []
    llama.model.get_decoder().layers[0].register_forward_pre_hook(lambda *_: calls.append(1))  # type: ignore[operator]
    for limit in (longest - 1, longest):
        monkeypatch.setattr(causal, "follows_opening", lambda _, __, longest, limit=limit: longest <= limit)
        assert shares_opening(llama) == (limit == longest)
        assert len(calls) == 2 + (limit == longest)


def test_what_prompts_begin_with_ends_where_their_context_does_not_agree() -> None:
    assert PromptIds([1, 5, 6], [7], None).opening == [1, 5, 6]
    assert PromptIds([1, 5, 6], [7], Place("before", 1)).opening == [1]
    assert PromptIds([1, 5, 6], [7], Place("after", 0)).opening == [1, 5, 6]
