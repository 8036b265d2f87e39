"""What every language model here can do, whatever its architecture: embed tokens, give a loss, write reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T positions of the prompt, L tokens of the report, E width of the language model


@dataclass(frozen=True)
class Generated:
    """One report as it came out of the language model."""

    ids: tuple[int, ...]  # without the end sign and without padding
    text: str  # ids decoded, white space at both ends removed
    finish: Literal["stop", "length"]  # an end sign was written, or max_new_tokens were


class LanguageModel(Protocol):
    """CausalLM or Seq2SeqLM. Both are torch modules; `model` is the transformers model inside.

    A prompt is embeddings [B, T, E] (words and image) with a mask [B, T] of what is real, padding anywhere; where the
    prompt goes, in front of the report or into an encoder, is the language model's affair.
    """

    model: PreTrainedModel
    tokenizer: ReportTokenizer

    @property
    def dim(self) -> int:
        """The width E of an embedding."""

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """The embeddings [B, T, E] of token ids."""

    def loss(self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor) -> torch.Tensor:
        """The cross-entropy [B] of each row's report, summed over its tokens, fp32, not normalised.

        `report_BL` holds token ids with the end sign, right-padded with NO_TARGET. Logits are computed for the
        report's columns only.
        """

    def generate(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding, *, ids: Sequence[str] = ()
    ) -> list[Generated]:
        """One report for each row of prompts; a row's report does not depend on its neighbours or its padding.

        `ids` are the rows' studies: a sampled report is drawn from the profile's seed and its study's id.
        """

    def check(self, decoding: Decoding) -> None:
        """Raise UserError where this language model cannot decode so."""
