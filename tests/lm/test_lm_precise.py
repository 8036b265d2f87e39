"""A float32 language model decodes in float64, and afterwards has the same tensors as before."""

import pytest
import torch
from golden_checkpoints import PUBLISHED, needs_published

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel, load_lm
from r2gen.lm.precise import double_precision

pytestmark = needs_published
ROWS, WIDTH, NEAR = 8, 40, 5  # prompt NEAR: its third and fourth beam differ by 4e-6 of 43, a last digit of float32


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_lm(PUBLISHED / "llama2_spm")


@pytest.mark.parametrize("inference", [False, True])
def test_two_beams_that_float32_cannot_distinguish(lm: LanguageModel, inference: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lengths_B = torch.randint(8, WIDTH, (ROWS,))
        embeds_BTE = torch.randn(ROWS, WIDTH, lm.dim) * lm.embed(torch.arange(50, 250)[None]).detach().std()
    mask_BT = torch.arange(WIDTH) >= (WIDTH - lengths_B)[:, None]
    decoding, near = Decoding(max_new_tokens=WIDTH, num_beams=3), slice(NEAR, NEAR + 1)
    with torch.inference_mode(inference):
        together = lm.generate(embeds_BTE, mask_BT, decoding)
        alone = lm.generate(embeds_BTE[near], mask_BT[near], decoding)
    assert together[near] == alone


def test_the_model_keeps_its_tensors(lm: LanguageModel) -> None:
    """DeepSpeed's optimiser writes into these tensors."""
    before = [(parameter.data_ptr(), parameter.dtype) for parameter in lm.model.parameters()]
    with double_precision(lm.model):
        assert lm.model.dtype == torch.float64
    assert [(parameter.data_ptr(), parameter.dtype) for parameter in lm.model.parameters()] == before


@pytest.mark.parametrize(("dtype", "attention"), [("bfloat16", "auto"), ("float32", "eager")])
def test_other_models_are_not_changed(dtype: str, attention: str) -> None:
    lm = load_lm(PUBLISHED / "llama2_spm", dtype=dtype, attention=attention)
    with double_precision(lm.model):
        assert str(lm.model.dtype) == f"torch.{dtype}"


def test_a_model_too_large_for_float64_stays_in_float32(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gen.lm.precise.LARGEST", 1000)
    with double_precision(lm.model):
        assert lm.model.dtype == torch.float32
