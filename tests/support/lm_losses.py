"""Language models whose losses are tested, and their losses with the gradient of the prompts."""

import torch
from golden_checkpoints import PUBLISHED
from small_model import TOKENIZER

from r2gen.lm import load_lm, random_lm
from r2gen.lm.causal import CausalLM


def published_lm(name: str, *, window: int) -> CausalLM:
    """A published layout; where it has a sliding window, one of this length."""
    lm = load_lm(PUBLISHED / name)
    assert isinstance(lm, CausalLM)
    for module in (lm.model, *lm.model.modules()):
        if module.__dict__.get("sliding_window"):
            module.sliding_window = window  # type: ignore[assignment]
    if getattr(lm.model.config, "sliding_window", None):
        lm.model.config.sliding_window = window
    return lm


def small_lm(*, layers: int = 2, width: int = 16) -> CausalLM:
    """A LLaMA with random weights and two heads."""
    lm = random_lm(
        tokenizer=TOKENIZER,
        seed=0,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
    )
    assert isinstance(lm, CausalLM)
    return lm


def loss_and_gradient_of(
    lm: CausalLM, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss [B], and the gradient [B, T, E] of the prompts."""
    embeds_BTE.requires_grad_(True)
    loss_B = lm.loss(embeds_BTE, mask_BT, report_BL)
    (gradient_BTE,) = torch.autograd.grad(loss_B.sum(), embeds_BTE)
    return loss_B.detach(), gradient_BTE
