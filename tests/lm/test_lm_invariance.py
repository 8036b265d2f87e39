"""In fp32, loss and report of a study do not depend on its batch, on the order of studies, and on padding.

The families differ in how they encode positions: ALiBi from the mask (bloom) or from positions (baichuan_13b), rotary
embeddings of half the width (chatglm3), sliding windows and scaled embeddings (gemma2), an encoder (t5).
"""

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published
from tiers import fast_only

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.lm import LanguageModel, load_lm

# B batch, T positions of the prompt, L tokens of the report, E width
pytestmark = needs_published
FAMILIES = ["llama2_spm", "chatglm3", "baichuan_13b", "qwen", "bloom", "gemma2", "internlm2", "t5"]
LENGTHS, WIDTH, WINDOW = (7, 16, 9, 4), 16, 6
ORDER = [2, 0, 3, 1]


@pytest.fixture(scope="module", params=fast_only(FAMILIES, "bloom", "gemma2", "llama2_spm", "qwen"))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    lm = load_lm(PUBLISHED / request.param)
    if request.param == "gemma2":  # a window shorter than the prompts
        lm.model.config.sliding_window = WINDOW
        for module in lm.model.modules():
            if module.__dict__.get("sliding_window"):
                module.sliding_window = WINDOW  # type: ignore[assignment]
    return lm


def prompts(lm: LanguageModel) -> list[torch.Tensor]:
    """Token embeddings with added noise of the same standard deviation."""
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    embeds_BTE = lm.embed(torch.randint(3, rows, (len(LENGTHS), WIDTH), generator=source)).detach()
    embeds_BTE += embeds_BTE.std() * torch.randn(embeds_BTE.shape, generator=source)
    return [embeds_TE[:length] for embeds_TE, length in zip(embeds_BTE, LENGTHS, strict=True)]


def padded(prompts: list[torch.Tensor], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompts in one tensor, with large numbers as padding to the left of or between the real positions."""
    source = torch.Generator().manual_seed(len(side))
    width = WIDTH + (5 if side == "left" else 0)
    embeds_BTE = torch.full((len(prompts), width, prompts[0].shape[1]), 7.0)
    mask_BT = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, prompt_TE in enumerate(prompts):
        taken = torch.arange(width - len(prompt_TE), width)
        if side == "middle":
            taken = torch.randperm(width, generator=source)[: len(prompt_TE)].sort().values
        embeds_BTE[row, taken], mask_BT[row, taken] = prompt_TE, True
    return embeds_BTE, mask_BT


@pytest.mark.parametrize("penalty", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_report_does_not_depend_on_its_batch(lm: LanguageModel, beams: int, penalty: float) -> None:
    decoding = Decoding(max_new_tokens=8, num_beams=beams, repetition_penalty=penalty)
    rows = prompts(lm)
    alone = [lm.generate(row[None], torch.ones(1, len(row)), decoding)[0] for row in rows]
    assert len({report.text for report in alone}) > 2  # otherwise this test would show nothing
    assert lm.generate(*padded(rows, "left"), decoding) == alone
    shuffled = lm.generate(*padded([rows[i] for i in ORDER], "middle"), decoding)
    assert shuffled == [alone[i] for i in ORDER]


@torch.no_grad()
def test_a_loss_does_not_depend_on_its_batch(lm: LanguageModel) -> None:
    rows, source = prompts(lm), torch.Generator().manual_seed(1)
    reports = [torch.randint(3, 300, (length,), generator=source) for length in (5, 9, 3, 7)]
    alone = [
        lm.loss(row[None], torch.ones(1, len(row)), report[None]) for row, report in zip(rows, reports, strict=True)
    ]
    report_BL = torch.nn.utils.rnn.pad_sequence(reports, batch_first=True, padding_value=NO_TARGET)
    for side in ("left", "middle"):
        loss_B = lm.loss(*padded(rows, side), report_BL)
        torch.testing.assert_close(loss_B, torch.cat(alone), rtol=1e-5, atol=0)


@torch.no_grad()
def test_embed_gives_the_embeddings_that_the_model_makes_of_ids(lm: LanguageModel) -> None:
    """Gemma scales its embeddings, which must happen exactly once."""
    ids_BT = torch.randint(3, 300, (2, 6), generator=torch.Generator().manual_seed(2))
    decoder = {"decoder_input_ids": ids_BT} if lm.model.config.is_encoder_decoder else {}
    from_ids, from_embeds = lm.model(input_ids=ids_BT, **decoder), lm.model(inputs_embeds=lm.embed(ids_BT), **decoder)
    assert torch.equal(from_ids.logits, from_embeds.logits)
