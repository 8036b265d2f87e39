"""The loss without masks and padding is that of each study on its own: in one row per study, and in one row of all."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from golden_checkpoints import needs_published
from lm_losses import loss_and_gradient_of, published_lm, small_lm
from tiers import fast_only
from transformers import PreTrainedModel

from r2gen.data.collate import NO_TARGET
from r2gen.lm import target_loss
from r2gen.lm.causal import CausalLM
from r2gen.lm.compile import compile_layers, layers_of
from r2gen.lm.packed_attention import by_mask, supports_packing
from r2gen.lm.rows import MULTIPLE, layout

# B studies, T positions of the prompt, L tokens of the report, E width
PROMPTS, REPORTS, WIDTH, WINDOW = (7, 16, 9, 4), (5, 3, 8, 6), 16, 6
FAMILIES = [
    "baichuan2_7b", "baichuan_13b", "baichuan_7b", "bloom", "chatglm2", "chatglm3", "gemma2", "gemma3", "glm4",
    "glm4_hf", "internlm", "internlm2", "internlm3", "llama2_json", "llama2_spm", "llama3", "mistral", "phi3", "qwen",
    "qwen2", "qwen3", "stablelm", "yi",
]  # fmt: skip
UNPACKED = {"baichuan_13b", "bloom", "gemma2", "stablelm"}  # ALiBi, capped scores, arguments that reach no attention


@pytest.fixture(scope="module", params=fast_only(FAMILIES, "baichuan_13b", "chatglm3", "gemma2", "gemma3", "mistral"))
def lm(request: pytest.FixtureRequest) -> CausalLM:
    lm = published_lm(request.param, window=WINDOW)  # shorter than the prompts
    lm.name = request.param  # type: ignore[assignment]
    return lm


def batch(lm: CausalLM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts with holes that contain large numbers, and reports of different lengths."""
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    embeds_BTE = lm.embed(torch.randint(3, rows, (len(PROMPTS), WIDTH), generator=source)).detach()
    mask_BT = torch.zeros(len(PROMPTS), WIDTH, dtype=torch.bool)
    report_BL = torch.full((len(REPORTS), max(REPORTS) + 2), NO_TARGET)
    for row, (prompt, report) in enumerate(zip(PROMPTS, REPORTS, strict=True)):
        mask_BT[row, torch.randperm(WIDTH, generator=source)[:prompt]] = True
        report_BL[row, :report] = torch.randint(3, rows, (report,), generator=source)
    return embeds_BTE.masked_fill(~mask_BT[:, :, None], 7.0), mask_BT, report_BL


def loss_and_gradient(lm: CausalLM) -> tuple[torch.Tensor, torch.Tensor]:
    return loss_and_gradient_of(lm, *batch(lm))


@torch.no_grad()
def alone(lm: CausalLM) -> list[float]:
    """The loss of each study from all logits of the model for this study."""
    losses, (embeds_BTE, mask_BT, report_BL) = [], batch(lm)
    for prompt_TE, real_T, report_L in zip(embeds_BTE, mask_BT, report_BL, strict=True):
        report_L = report_L[report_L != NO_TARGET]
        study_1SE = torch.cat([prompt_TE[real_T], lm.embed(report_L[None])[0]])[None]
        scores_LV = lm.model(inputs_embeds=study_1SE).logits[0, int(real_T.sum()) - 1 : -1].double().log_softmax(-1)
        losses.append(-float(scores_LV.gather(1, report_L[:, None]).sum()))
    return losses


@needs_published
def test_one_row_per_study_gives_the_loss_of_each_study_on_its_own(lm: CausalLM) -> None:
    lm.packs = False
    loss_B, gradient_BTE = loss_and_gradient(lm)
    assert loss_B.tolist() == pytest.approx(alone(lm), rel=1e-5)
    assert not gradient_BTE[~batch(lm)[1]].any()


@needs_published
def test_one_row_of_all_studies_gives_the_loss_and_gradient_of_one_row_per_study(lm: CausalLM) -> None:
    assert supports_packing(lm.model) == (lm.name not in UNPACKED)
    if not supports_packing(lm.model):
        return
    results = []
    for lm.packs in (False, True):
        results.append(loss_and_gradient(lm))
    (rows_B, rows_BTE), (packed_B, packed_BTE) = results
    torch.testing.assert_close(packed_B, rows_B, rtol=1e-5, atol=0)
    torch.testing.assert_close(packed_BTE, rows_BTE, rtol=1e-3, atol=float(rows_BTE.abs().max()) * 1e-5)


@pytest.mark.parametrize("prepare", [lambda model: None, compile_layers])
def test_packed_layers_that_are_computed_again_give_the_same_gradient(
    prepare: Callable[[PreTrainedModel], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the backward pass, which is after the loss, they attend within each study too."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # which needs no C++ compiler
    lm = small_lm(layers=3)
    lm.packs = True
    expected = loss_and_gradient(lm)
    prepare(lm.model)
    lm.gradient_checkpointing = True
    torch.testing.assert_close(loss_and_gradient(lm), expected)


@pytest.mark.parametrize("packs", [False, True])
def test_the_last_layer_computes_its_network_where_a_token_is_predicted(packs: bool) -> None:
    lm = small_lm()
    lm.packs = packs
    positions: list[int] = []
    for layer in layers_of(lm.model):
        layer.mlp.gate_proj.register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0][..., 0].numel()))
    loss_and_gradient(lm)
    rows = MULTIPLE if packs else len(REPORTS) * max(p + r - 1 for p, r in zip(PROMPTS, REPORTS, strict=True))
    assert positions == [rows, sum(REPORTS)]


def test_chunks_give_the_loss_and_gradient_of_all_targets_at_once(
    llama2_spm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama2_spm.model.requires_grad_(False)
    plain = loss_and_gradient(llama2_spm)
    monkeypatch.setattr(target_loss, "CHUNK", 5)
    calls = []
    hook = llama2_spm.model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    chunked = loss_and_gradient(llama2_spm)
    hook.remove()
    llama2_spm.model.requires_grad_(True)
    assert len(calls) == -(-sum(REPORTS) // 5)
    torch.testing.assert_close(chunked[0], plain[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(chunked[1], plain[1], rtol=1e-4, atol=float(plain[1].abs().max()) * 1e-6)


def test_a_row_of_all_studies_has_a_length_of_64_and_studies_that_begin_at_position_0() -> None:
    mask_BT = torch.tensor([[True, False, True], [False, True, False]])
    report_BL = torch.tensor([[4, 5, NO_TARGET], [6, NO_TARGET, NO_TARGET]])
    plan = layout(mask_BT, report_BL, packed=True)
    assert plan.source_RS[0, :4].tolist() == [0, 2, 6, 4]  # without the last token of each report
    assert plan.before_M.tolist() == [1, 2, 3]
    assert plan.column_M.tolist() == [0, 1, 3]
    assert plan.position_RS is not None
    assert plan.position_RS[0, :6].tolist() == [0, 1, 2, 0, 0, 1]
    assert plan.starts is not None
    assert plan.starts.tolist() == [0, 3, 4, MULTIPLE]
    assert (plan.source_RS.shape, plan.longest) == ((1, MULTIPLE), MULTIPLE)


def test_attention_by_mask_is_that_within_each_study() -> None:
    query, key, value = torch.randn(3, 9, 4, 8, generator=torch.Generator().manual_seed(1)).unbind()
    together = by_mask(query, key[:, :2], value[:, :2], torch.tensor([0, 4, 9]), scaling=None, window=2)
    for start, end in ((0, 4), (4, 9)):
        study = slice(start, end)
        apart = by_mask(
            query[study], key[study, :2], value[study, :2], torch.tensor([0, end - start]), scaling=None, window=2
        )
        torch.testing.assert_close(together[study], apart)
