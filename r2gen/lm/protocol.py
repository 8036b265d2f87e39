"""The interface of every language model: embed tokens, compute a loss, generate reports."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T positions of the prompt, L tokens of the report, E width of the language model


DecoderName = Literal["auto", "tree", "transformers"]  # of evaluate.decoder


@dataclass(frozen=True)
class Generated:
    """One generated report."""

    ids: tuple[int, ...]  # without the EOS token and padding
    text: str  # the decoded ids without white space at both ends
    finish: Literal["stop", "length"]  # ended by an EOS token or a stop text, or by max_new_tokens


Reports: TypeAlias = Generator[tuple[str, Generated], None, None]  # the id of a study and its report


@dataclass(frozen=True)
class Prompts:
    """The prompts of some studies: embeddings [B, T, E] with a mask [B, T] of the real positions."""

    ids: Sequence[str]
    embeds_BTE: torch.Tensor
    mask_BT: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class DecodingPlan:
    """How many studies are decoded at a time, and in which way; it changes no report except by rounding."""

    slots: int  # the largest number of studies at a time, if a tree decodes them; transformers decodes batches
    decoder: DecoderName = "auto"
    compiled: bool = False  # compile the layers first: 5 s for a 7B model, whose steps on a GPU are then faster


class LanguageModel(Protocol):
    """CausalLM or Seq2SeqLM. Both are torch modules, and `model` is the transformers model inside.

    A prompt is embeddings [B, T, E] of text and image with a mask [B, T] of the real positions; padding may be
    anywhere. CausalLM puts the prompt in front of the report, Seq2SeqLM into the encoder.
    """

    model: PreTrainedModel
    tokenizer: ReportTokenizer
    dropout: float  # of the input embeddings and the last hidden states of a decoder that trains, in train() only
    keeps_slots: bool  # of the last call of generate, which makes the next one faster and takes memory
    tree: bool | None  # whether it was tried to decode as a tree, and gives the same; None: not tried yet
    decoded: DecodingPlan | None  # how the last studies were decoded; memory may have allowed fewer slots than planned

    @property
    def dim(self) -> int:
        """The width E of an embedding."""

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """The embeddings [B, T, E] of token ids."""

    def loss(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor, *, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        """The cross-entropy [B] of each report in fp32, summed over its tokens and not normalised.

        `report_BL` is the token ids with the EOS token, right-padded with NO_TARGET. Logits are computed for the
        columns of the report only. `label_smoothing` is that of torch's cross_entropy; with 0 the loss is the negative
        log-likelihood.
        """

    def generate(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding, *, ids: Sequence[str] = ()
    ) -> list[Generated]:
        """One report for each prompt, independent of the other prompts and of padding.

        `ids` are the ids of the studies, which sampling needs: a sampled report depends on the profile's seed and the
        id of its study.
        """

    def stream(self, prompts: Iterable[Prompts], decoding: Decoding, plan: DecodingPlan) -> Reports:
        """The report of each study with its id, as soon as it has ended; prompts are taken when they are needed."""

    def decoder_for(self, decoding: Decoding, wanted: DecoderName = "auto") -> DecoderName:
        """The way in which a profile is decoded: `tree` (tree_decoding.py), or `transformers` by its generate().

        Raises UserError if `tree` is wanted and this language model or profile does not support it.
        """
