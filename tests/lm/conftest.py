"""Tiny language models for these tests, whose random weights are so large that reports differ and end by EOS tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from r2gen.lm import LanguageModel, ReportTokenizer, load_lm, random_lm, train_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
REPORTS = ["The heart is normal in size.", "The heart is large. The lungs are clear.", "No pneumothorax is seen."] * 3


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, since several are slower for such small matrices, and much slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> ReportTokenizer:
    return train_tokenizer(REPORTS, 300)


def lively(tokenizer: ReportTokenizer, *, seed: int, attention: str = "sdpa") -> LanguageModel:
    lm = random_lm(
        tokenizer=tokenizer,
        seed=seed,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        attention=attention,
    )
    with torch.no_grad():
        for parameter in lm.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
        lm.model.get_output_embeddings().weight[tokenizer.eos_id].mul_(1.5)
    return lm


@pytest.fixture(scope="session", params=["sdpa", "eager"])
def lm(request: pytest.FixtureRequest, tokenizer: ReportTokenizer) -> LanguageModel:
    return lively(tokenizer, seed=1, attention=request.param)


@pytest.fixture(scope="session")
def sdpa_lm(tokenizer: ReportTokenizer) -> LanguageModel:
    return lively(tokenizer, seed=1)


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def llama2_spm() -> LanguageModel:
    return load_lm(GOLDEN / "llama2_spm")


@pytest.fixture(scope="session")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of different lengths, with padding at random positions."""
    source = torch.Generator().manual_seed(5)
    embeds_BTE = torch.randn(8, 14, 32, generator=source)
    mask_BT = torch.zeros(8, 14, dtype=torch.bool)
    for row, length in enumerate([3, 14, 6, 9, 4, 12, 8, 5]):
        mask_BT[row, torch.randperm(14, generator=source)[:length]] = True
    return embeds_BTE, mask_BT
