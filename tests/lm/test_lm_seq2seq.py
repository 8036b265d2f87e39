"""The loss and the reports of an encoder-decoder do not depend on padding and on the batch."""

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.errors import UserError
from r2gen.lm import ReportTokenizer
from r2gen.lm.seq2seq import Seq2SeqLM

# B batch, T positions of the prompt, L tokens of the report, E width, V vocabulary
Row = tuple[torch.Tensor, torch.Tensor]
SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_layers": 2}


def t5(tokenizer: ReportTokenizer, **shape: object) -> T5ForConditionalGeneration:
    """A T5 with random weights that are large enough for reports to differ."""
    config = T5Config(
        **{**SHAPE, **shape},
        vocab_size=tokenizer.vocabulary_size,
        decoder_start_token_id=0,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(6 if "relative_attention_bias" in name else 2)
    return model


@pytest.fixture(scope="module")
def lm(tokenizer: ReportTokenizer) -> Seq2SeqLM:
    return Seq2SeqLM(t5(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Prompt embeddings and report ids of four studies."""
    source = torch.Generator().manual_seed(3)
    return [
        (torch.randn(prompt, 32, generator=source), torch.randint(3, 259, (report,), generator=source))
        for prompt, report in ((5, 4), (3, 6), (9, 2), (4, 5))
    ]


def padded(rows: list[Row], *, extra: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts with noise at random columns between their positions, and reports padded at the end."""
    source = torch.Generator().manual_seed(seed)
    width = max(len(prompt_TE) for prompt_TE, _ in rows) + extra
    prompt_BTE = 9 * torch.randn(len(rows), width, 32, generator=source)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.bool)
    report_BL = torch.full((len(rows), max(len(report_L) for _, report_L in rows) + extra), NO_TARGET)
    for row, (prompt_TE, report_L) in enumerate(rows):
        columns = torch.randperm(width, generator=source)[: len(prompt_TE)].sort().values
        prompt_BTE[row, columns], mask_BT[row, columns] = prompt_TE, True
        report_BL[row, : len(report_L)] = report_L
    return prompt_BTE, mask_BT, report_BL


@torch.no_grad()
def plain_loss(model: T5ForConditionalGeneration, prompt_TE: torch.Tensor, report_L: torch.Tensor) -> float:
    """The loss by transformers' own `labels` argument, without padding."""
    return float(model(inputs_embeds=prompt_TE[None], labels=report_L[None]).loss) * len(report_L)


def test_the_loss_does_not_depend_on_padding(lm: Seq2SeqLM, rows: list[Row]) -> None:
    expected = [plain_loss(lm.model, *row) for row in rows]
    for extra in (0, 1, 5):
        prompt_BTE, mask_BT, report_BL = padded(rows, extra=extra, seed=extra)
        prompt_BTE.requires_grad_(True)
        loss_B = lm.loss(prompt_BTE, mask_BT, report_BL)
        loss_B.sum().backward()
        assert loss_B.dtype == torch.float32
        assert loss_B.tolist() == pytest.approx(expected, rel=1e-5)
        assert prompt_BTE.grad is not None
        assert prompt_BTE.grad[mask_BT].abs().sum(dim=1).all()
        assert not prompt_BTE.grad[~mask_BT].any()


@pytest.mark.parametrize("training", [False, True])
def test_gradient_checkpointing_changes_no_bit_with_lora_and_frozen_weights(
    tokenizer: ReportTokenizer, rows: list[Row], training: bool
) -> None:
    model = t5(tokenizer, dropout_rate=0.0).requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=["q", "v"], init_lora_weights=False), model)
    model.train(training)
    prompt_BTE, mask_BT, report_BL = padded(rows, extra=2, seed=0)
    results = []
    for enabled in (False, True):
        calls: list[int] = []
        hooks = [
            stack.block[1].layer[0].register_forward_hook(lambda *_, calls=calls: calls.append(1))
            for stack in (model.encoder, model.decoder)
        ]
        leaf_BTE = prompt_BTE.clone().requires_grad_(True)
        loss = Seq2SeqLM(model, tokenizer, gradient_checkpointing=enabled).loss(leaf_BTE, mask_BT, report_BL).sum()
        loss.backward()
        for hook in hooks:
            hook.remove()
        grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert grads
        assert all("lora_" in name for name in grads)
        results.append(({"loss": loss.detach(), "prompt": leaf_BTE.grad, **grads}, len(calls)))
        model.zero_grad()
    (plain, once), (recomputed, twice) = results
    assert plain.keys() == recomputed.keys()
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)
    assert (once, twice) == (2, 4)


PROFILES = {
    "greedy": Decoding(max_new_tokens=12, min_new_tokens=3, repetition_penalty=2.0),
    "beam3": Decoding(max_new_tokens=12, num_beams=3, repetition_penalty=1.2, length_penalty=2.0),
    "nucleus": Decoding(max_new_tokens=12, do_sample=True, top_p=0.9, seed=1),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_report_does_not_depend_on_its_batch(lm: Seq2SeqLM, rows: list[Row], profile: str) -> None:
    decoding, ids = PROFILES[profile], [f"study {index}" for index in range(len(rows))]
    alone = [
        lm.generate(prompt_TE[None], torch.ones(1, len(prompt_TE)), decoding, ids=[study])[0]
        for study, (prompt_TE, _) in zip(ids, rows, strict=True)
    ]
    assert len({report.text for report in alone}) == len(rows)
    for extra in (0, 6):
        for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
            prompt_BTE, mask_BT, _ = padded([rows[i] for i in order], extra=extra, seed=extra)
            written = lm.generate(prompt_BTE, mask_BT, decoding, ids=[ids[i] for i in order])
            assert written == [alone[i] for i in order]


@torch.no_grad()
def by_hand(lm: Seq2SeqLM, prompt_TE: torch.Tensor, *, skip: int) -> list[int]:
    """Eight greedy tokens with a penalty of 3 that ignores `skip` tokens, without a cache."""
    ids = [lm.start_id]
    for _ in range(8):
        scores_V = lm.model(inputs_embeds=prompt_TE[None], decoder_input_ids=torch.tensor([ids])).logits[0, -1]
        for i in set(ids[skip:]):
            scores_V[i] = scores_V[i] * 3 if scores_V[i] < 0 else scores_V[i] / 3
        scores_V[lm.tokenizer.eos_id] = -torch.inf
        ids.append(int(scores_V.argmax()))
    return ids[1:]


def test_the_penalty_does_not_count_the_token_that_starts_a_report(lm: Seq2SeqLM, rows: list[Row]) -> None:
    decoding, prompt_TE = Decoding(max_new_tokens=8, min_new_tokens=8, repetition_penalty=3.0), rows[0][0]
    before = lm.start_id
    try:
        for start in range(3, 40):
            lm.start_id = start
            expected = by_hand(lm, prompt_TE, skip=1)
            if expected != by_hand(lm, prompt_TE, skip=0):  # a start that the model would write again
                break
        else:
            pytest.fail("no start shows the difference")
        assert list(lm.generate(prompt_TE[None], torch.ones(1, 5), decoding)[0].ids) == expected
    finally:
        lm.start_id = before


def test_a_decoder_may_be_deeper_than_the_encoder(tokenizer: ReportTokenizer, rows: list[Row]) -> None:
    """transformers 5.23 gives the cache the depth of the encoder, and fails."""
    lm = Seq2SeqLM(t5(tokenizer, num_layers=1, num_decoder_layers=3), tokenizer)
    for beams in (1, 3):
        decoding = Decoding(max_new_tokens=5, min_new_tokens=5, num_beams=beams)
        assert len(lm.generate(rows[0][0][None], torch.ones(1, 5), decoding)[0].ids) == 5


def test_float16_and_a_missing_start_token_are_refused(tokenizer: ReportTokenizer) -> None:
    with pytest.raises(UserError, match=r"lm\.dtype=float16"):
        Seq2SeqLM(t5(tokenizer).half(), tokenizer)
    headless = t5(tokenizer)
    headless.config.decoder_start_token_id = None
    with pytest.raises(UserError, match="decoder_start_token_id"):
        Seq2SeqLM(headless, tokenizer)


@needs_published
@pytest.mark.parametrize("family", ["t5", "flan_t5"])
def test_published_checkpoints_give_the_golden_logits_and_tokens(family: str, tokenizer: ReportTokenizer) -> None:
    golden = load_file(PUBLISHED / family / "golden.safetensors")
    model = T5ForConditionalGeneration.from_pretrained(PUBLISHED / family).eval()
    lm = Seq2SeqLM(model, ReportTokenizer(tokenizer.codec, bos_id=None, eos_ids=(1,), pad_id=0))
    with torch.no_grad():
        prompts = {"enc": lm.embed(golden["enc.input_ids"]), "embeds": golden["embeds.inputs_embeds"]}
        for name, prompt_BTE in prompts.items():
            mask_BT, inputs_BL = golden[f"{name}.attention_mask"], golden[f"{name}.decoder_input_ids"]
            expected_BLV = golden[f"{name}.logits"]
            logits_BLV = model(inputs_embeds=prompt_BTE, attention_mask=mask_BT, decoder_input_ids=inputs_BL).logits
            torch.testing.assert_close(logits_BLV, expected_BLV, rtol=0, atol=1e-4)
            nats_BL = -expected_BLV.log_softmax(dim=-1).gather(2, inputs_BL[:, 1:, None]).squeeze(2)
            loss_B = lm.loss(prompt_BTE, mask_BT, inputs_BL[:, 1:])
            torch.testing.assert_close(loss_B, nats_BL.sum(dim=1), rtol=1e-5, atol=0)
            decoding = Decoding(max_new_tokens=16, min_new_tokens=16)  # the golden run suppressed the EOS token
            written = [list(report.ids) for report in lm.generate(prompt_BTE.flip(1), mask_BT.flip(1), decoding)]
            assert written != golden[f"{name}.generated"].tolist()  # the order of the prompt does matter
            written = [list(report.ids) for report in lm.generate(prompt_BTE, mask_BT, decoding)]
            assert written == golden[f"{name}.generated"].tolist()
