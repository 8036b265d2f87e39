"""The loss sums over targets, independent of padding, and gradient checkpointing does not change it."""

import pytest
import torch

from r2gen.data.collate import NO_TARGET
from r2gen.lm import LanguageModel
from r2gen.lm.causal import CausalLM

# B batch, T tokens of prompt and report, L those of the report, E width, V vocabulary
PROMPTS, REPORTS = (5, 3, 7), (4, 6, 2)


@pytest.fixture(scope="module")
def rows() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Prompt embeddings and report ids of three studies."""
    source = torch.Generator().manual_seed(3)
    return [
        (torch.randn(prompt, 32, generator=source), torch.randint(3, 259, (report,), generator=source))
        for prompt, report in zip(PROMPTS, REPORTS, strict=True)
    ]


def batch(
    lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]], *, left: int, middle: int, right: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A padded batch: `left` columns or more before a prompt, `middle` within it, and `right` after a report."""
    width, length = left + middle + max(PROMPTS), max(REPORTS) + right
    prompt_BTE = torch.randn(len(rows), width, 32, generator=torch.Generator().manual_seed(left + right))
    mask_BT = torch.zeros(prompt_BTE.shape[:2], dtype=torch.bool)
    report_BL = torch.full((len(rows), length), NO_TARGET)
    for row, (prompt_TE, report_L) in enumerate(rows):
        last = list(range(width - len(prompt_TE) + 1, width))
        columns = torch.tensor([last[0] - 1 - middle, *last])
        prompt_BTE[row, columns], mask_BT[row, columns] = prompt_TE, True
        report_BL[row, : len(report_L)] = report_L
    return prompt_BTE, mask_BT, report_BL


@torch.no_grad()
def plain_loss(lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
    """The loss of each study on its own, from all logits, in float64."""
    losses = []
    for prompt_TE, report_L in rows:
        logits_BTV = lm.model(inputs_embeds=torch.cat([prompt_TE, lm.embed(report_L[None])[0]])[None]).logits
        scores_LV = logits_BTV[0, len(prompt_TE) - 1 : -1].double().log_softmax(dim=-1)
        losses.append(-float(scores_LV.gather(1, report_L[:, None]).sum()))
    return losses


@pytest.mark.parametrize("padding", [(0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 5), (2, 3, 4)])
def test_the_loss_does_not_depend_on_padding(
    lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]], padding: tuple[int, int, int]
) -> None:
    prompt_BTE, mask_BT, report_BL = batch(lm, rows, left=padding[0], middle=padding[1], right=padding[2])
    prompt_BTE.requires_grad_(True)
    loss_B = lm.loss(prompt_BTE, mask_BT, report_BL)
    loss_B.sum().backward()
    assert loss_B.dtype == torch.float32
    assert loss_B.tolist() == pytest.approx(plain_loss(lm, rows), rel=1e-5)
    assert prompt_BTE.grad is not None
    assert prompt_BTE.grad.isfinite().all()
    assert not prompt_BTE.grad[~mask_BT].any()


def test_logits_are_computed_for_the_targets_only(
    sdpa_lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    seen = []
    head = sdpa_lm.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[:2])))
    prompt_BTE, mask_BT, report_BL = batch(sdpa_lm, rows, left=0, middle=0, right=0)
    sdpa_lm.loss(prompt_BTE, mask_BT, report_BL)
    hook.remove()
    assert seen == [(1, sum(REPORTS))]


def test_the_loss_of_a_batch_without_targets_is_zero(
    sdpa_lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    prompt_BTE, mask_BT, report_BL = batch(sdpa_lm, rows, left=0, middle=0, right=0)
    assert sdpa_lm.loss(prompt_BTE, mask_BT, torch.full_like(report_BL, NO_TARGET)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("training", [False, True])
def test_gradient_checkpointing_changes_no_bit(
    sdpa_lm: LanguageModel, rows: list[tuple[torch.Tensor, torch.Tensor]], training: bool
) -> None:
    """It works for a frozen model in eval() too, for which transformers disables it."""
    results = []
    prompt_BTE, mask_BT, report_BL = batch(sdpa_lm, rows, left=2, middle=0, right=1)
    layer = sdpa_lm.model.get_decoder().layers[0]
    for enabled in (False, True):
        calls: list[int] = []
        hook = layer.self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        lm = CausalLM(sdpa_lm.model, sdpa_lm.tokenizer, gradient_checkpointing=enabled)
        lm.model.train(training)
        leaf_BTE = prompt_BTE.clone().requires_grad_(True)
        loss = lm.loss(leaf_BTE, mask_BT, report_BL).sum()
        loss.backward()
        hook.remove()
        assert layer.training == training
        lm.model.eval()
        results.append((loss.detach(), leaf_BTE.grad, len(calls)))
    (plain, plain_BTE, once), (recomputed, recomputed_BTE, twice) = results
    assert torch.equal(plain, recomputed)
    assert plain_BTE is not None
    assert recomputed_BTE is not None
    assert torch.equal(plain_BTE, recomputed_BTE)
    assert (once, twice) == (1, 2)
