"""Label smoothing is torch's and never in a likelihood; dropout is in training only."""

import pytest
import torch
from small_model import batch as studies
from small_model import report_generator
from torch.nn import functional as F

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.lm import ReportTokenizer, causal, random_lm, target_loss
from r2gen.lm.causal import CausalLM
from r2gen.lm.seq2seq import cross_entropy

# B studies, T positions of the prompt, L tokens of the report, V vocabulary
REPORT_BL = torch.tensor([[5, 6, 7, 2], [9, 2, NO_TARGET, NO_TARGET], [8, 30, 2, NO_TARGET]])
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def llama(tokenizer: ReportTokenizer, **options: float) -> CausalLM:
    lm = random_lm(tokenizer=tokenizer, seed=1, **SHAPE, **options)  # type: ignore[arg-type]
    assert isinstance(lm, CausalLM)
    return lm


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(2)), torch.ones(3, 5, dtype=torch.bool)


def loss(lm: CausalLM, *, seed: int = 0, label_smoothing: float = 0.0) -> list[float]:
    torch.manual_seed(seed)
    losses: list[float] = lm.loss(*prompts(), REPORT_BL, label_smoothing=label_smoothing).tolist()
    return losses


def plain_loss(lm: CausalLM, prompt_BTE: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """That of torch, from all logits of each study on its own."""
    losses = []
    for prompt_TE, report_L in zip(prompt_BTE, REPORT_BL, strict=True):
        report_L = report_L[report_L != NO_TARGET]
        logits_BTV = lm.model(inputs_embeds=torch.cat([prompt_TE, lm.embed(report_L[None])[0]])[None]).logits
        logits_LV = logits_BTV[0, len(prompt_TE) - 1 : -1]
        losses.append(F.cross_entropy(logits_LV, report_L, label_smoothing=label_smoothing, reduction="sum"))
    return torch.stack(losses)


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("chunk", [2, 100])
def test_label_smoothing_is_that_of_torch(
    tokenizer: ReportTokenizer, packs: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(target_loss, "CHUNK", chunk)
    lm = llama(tokenizer)
    lm.packs = packs
    lm.model.requires_grad_(False)  # else the loss is not computed in chunks
    for smoothing in (0.0, 0.3):
        prompt_BTE, mask_BT = prompts()
        prompt_BTE.requires_grad_(True)
        expected_B = plain_loss(lm, prompt_BTE, smoothing)
        (expected_BTE,) = torch.autograd.grad(expected_B.sum(), prompt_BTE)
        loss_B = lm.loss(prompt_BTE, mask_BT, REPORT_BL, label_smoothing=smoothing)
        (gradient_BTE,) = torch.autograd.grad(loss_B.sum(), prompt_BTE)
        torch.testing.assert_close(loss_B, expected_B, rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient_BTE, expected_BTE, rtol=1e-3, atol=1e-6)
    assert loss(lm, label_smoothing=0.3) != loss(lm)


def test_label_smoothing_of_an_encoder_decoder_is_that_of_torch():
    logits_BLV = torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(1))
    for smoothing in (0.0, 0.2):
        expected = [
            F.cross_entropy(logits_LV[real_L], ids_L[real_L], label_smoothing=smoothing, reduction="sum").item()
            for logits_LV, ids_L, real_L in zip(logits_BLV, REPORT_BL, REPORT_BL != NO_TARGET, strict=True)
        ]
        assert cross_entropy(logits_BLV, REPORT_BL, label_smoothing=smoothing).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("training", [False, True])
def test_a_likelihood_has_no_label_smoothing(training: bool):
    model = report_generator().train(training)
    batch = studies(0, 1, 2)
    with torch.no_grad():
        plain, nats_B = model(batch), model.nats(batch)
        model.label_smoothing = 0.2
        assert torch.equal(model.nats(batch), nats_B)
        assert plain == nats_B.sum()
        assert (model(batch) - plain).abs() > 1e-3


@pytest.mark.parametrize("packs", [False, True])
def test_dropout_is_in_training_only(tokenizer: ReportTokenizer, packs: bool):
    lm = llama(tokenizer)
    lm.packs = packs
    plain = loss(lm)
    lm.dropout = 0.4
    assert loss(lm) == plain
    lm.model.train()
    assert loss(lm) == loss(lm) != plain
    assert loss(lm) != loss(lm, seed=1)
    lm.gradient_checkpointing, dropped = True, loss(lm)
    lm.gradient_checkpointing = False
    assert loss(lm) == dropped
    with_dropout = lm.generate(*prompts(), Decoding(max_new_tokens=6, num_beams=2))
    lm.dropout = 0.0
    assert lm.generate(*prompts(), Decoding(max_new_tokens=6, num_beams=2)) == with_dropout


def test_dropout_is_of_the_rows_and_of_the_last_hidden_states(tokenizer: ReportTokenizer):
    """All of either are zero with a dropout of almost 1, after which every token is equally likely."""
    lm = llama(tokenizer)
    lm.dropout = 1 - 1e-9
    lm.model.train()
    seen = {}
    decoder = lm.model.get_decoder()
    hook = decoder.register_forward_pre_hook(
        lambda module, args, options: seen.update(rows=options["inputs_embeds"]), with_kwargs=True
    )
    equally_likely = torch.tensor(float(tokenizer.vocabulary_size)).log()
    expected = [float(equally_likely * count) for count in (REPORT_BL != NO_TARGET).sum(dim=1)]
    assert loss(lm) == pytest.approx(expected, rel=1e-5)
    hook.remove()
    assert not seen["rows"].any()


def test_a_frozen_language_model_has_no_dropout():
    model = report_generator(lm="frozen")
    batch = studies(0, 1, 2)
    with torch.no_grad():
        plain = model.train()(batch)
        model.lm.dropout = 0.5
        assert torch.equal(model.train()(batch), plain)


def test_attention_dropout_is_never_ignored(tokenizer: ReportTokenizer, monkeypatch: pytest.MonkeyPatch):
    """The kernel for one row of all studies has none, so such a model trains with one row per study."""
    monkeypatch.setattr(causal, "packs_on", lambda model, device: True)
    lm = llama(tokenizer, attention_dropout=0.3)
    assert loss(lm) == loss(lm, seed=1) == pytest.approx(loss(llama(tokenizer)), rel=1e-5)
    lm.model.train()
    assert loss(lm) != loss(lm, seed=1)
