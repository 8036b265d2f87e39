"""Reports of a float32 language model are written in float64, and its weights are afterwards the tensors they were."""

import os
from pathlib import Path

import pytest
import torch

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel, load_lm
from r2gen.lm.precise import double_precision

GOLDEN = Path(os.environ.get("R2GEN_SHARED", Path(__file__).parents[3] / "shared")) / "lm" / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"needs {GOLDEN}")
ROWS, WIDTH, NEAR = 8, 40, 5  # prompt NEAR: its third and fourth beam differ by 4e-6 of 43, a last digit of float32


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_lm(GOLDEN / "llama2_spm")


@pytest.mark.parametrize("inference", [False, True])
def test_two_beams_that_float32_cannot_tell_apart(lm: LanguageModel, inference: bool) -> None:
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


def test_the_weights_are_the_tensors_they_were(lm: LanguageModel) -> None:
    """DeepSpeed's optimizer writes into them."""
    before = [(parameter.data_ptr(), parameter.dtype) for parameter in lm.model.parameters()]
    with double_precision(lm.model):
        assert lm.model.dtype == torch.float64
    assert [(parameter.data_ptr(), parameter.dtype) for parameter in lm.model.parameters()] == before


@pytest.mark.parametrize(("dtype", "attention"), [("bfloat16", "auto"), ("float32", "eager")])
def test_other_models_stay_as_they_are(dtype: str, attention: str) -> None:
    lm = load_lm(GOLDEN / "llama2_spm", dtype=dtype, attention=attention)
    with double_precision(lm.model):
        assert str(lm.model.dtype) == f"torch.{dtype}"


def test_what_float64_has_no_room_for_stays_in_float32(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gen.lm.precise.LARGEST", 1000)
    with double_precision(lm.model):
        assert lm.model.dtype == torch.float32
