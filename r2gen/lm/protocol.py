"""What every language model here can do, whatever its architecture: embed tokens, give a loss, write reports."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from r2gen.lm.decoding_profile import Decoding
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T tokens of prompt and report, L the last of them, E width of the language model


@dataclass(frozen=True)
class Generated:
    """One report as it came out of the language model."""

    ids: tuple[int, ...]  # without the end sign and without padding
    text: str  # ids decoded, white space at both ends removed
    finish: Literal["stop", "length"]  # an end sign was written, or max_new_tokens were


class LanguageModel(Protocol):
    """CausalLM, later Seq2SeqLM too. Both are torch modules; `model` is the transformers model inside."""

    model: PreTrainedModel
    tokenizer: ReportTokenizer

    @property
    def dim(self) -> int:
        """The width E of an embedding."""

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """The embeddings [B, T, E] of token ids."""

    def loss(self, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, targets_BL: torch.Tensor) -> torch.Tensor:
        """The sum of the cross-entropy over all targets, fp32, not normalised.

        `embeds_BTE` is the prompt followed by the report, `mask_BT` says what of it is real. `targets_BL` stands beside
        the LAST L positions (L up to T): the id of the token embedded there, NO_TARGET where there is none. The shift
        by one happens inside. Logits are computed for these L positions only, so pass the report's columns alone.
        """

    def generate(self, embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding) -> list[Generated]:
        """One report for each row of prompts; a row's report does not depend on its neighbours or its padding."""
