"""An encoder-decoder language model (T5, Flan-T5): the prompt with the image is encoded, the report is decoded."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.errors import UserError
from r2gen.lm.causal import cross_entropy, evaluating, recomputed
from r2gen.lm.decoding import decode, longest, right_pad
from r2gen.lm.precise import double_precision
from r2gen.lm.protocol import Generated
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T positions of the prompt, L tokens of the report, E width of the language model


class Seq2SeqLM(nn.Module):
    """A transformers model for conditional generation behind the LanguageModel protocol.

    Raises UserError where the checkpoint does not say which token starts a report, and in float16, in which T5's
    activations overflow (they were trained in bfloat16). gradient_checkpointing is as in CausalLM, for both stacks.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, *, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        start = model.config.decoder_start_token_id
        if start is None:
            raise UserError("lm.path: config.json has no decoder_start_token_id, with which a report begins")
        if model.dtype == torch.float16:
            raise UserError(
                "lm.dtype=float16: the activations of this encoder-decoder overflow in it: use bfloat16 or float32"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.gradient_checkpointing = gradient_checkpointing
        self.start_id = int(start)
        model.generation_config = GenerationConfig()  # the checkpoint's own defaults may not leak in

    @property
    def dim(self) -> int:
        return int(self.model.config.hidden_size)

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def loss(self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor) -> torch.Tensor:
        """See LanguageModel.loss. Padding may stand anywhere in the prompt: it is moved out of the way."""
        prompt_BTE, mask_BT = right_pad(prompt_BTE.to(self.model.dtype), mask_BT)
        start_B1 = report_BL.new_full((len(report_BL), 1), self.start_id)
        with recomputed(self.model, self.gradient_checkpointing):
            output = self.model(
                inputs_embeds=prompt_BTE,
                attention_mask=mask_BT,
                decoder_input_ids=torch.cat([start_B1, report_BL[:, :-1].where(report_BL[:, :-1] != NO_TARGET, 0)], 1),
                use_cache=False,
            )
        return cross_entropy(output.logits, report_BL)

    @torch.no_grad()
    def generate(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding, *, ids: Sequence[str] = ()
    ) -> list[Generated]:
        """See LanguageModel.generate. Padding may stand anywhere in the prompt: it is moved out of the way."""
        self.check(decoding)
        width = longest(mask_BT)
        embeds_BTE, mask_BT = right_pad(prompt_BTE, mask_BT)
        embeds_BTE, mask_BT = embeds_BTE[:, :width], mask_BT[:, :width]
        with evaluating(self.model), double_precision(self.model):
            embeds_BTE = embeds_BTE.to(self.model.dtype)
            return decode(
                self.model, self.tokenizer, embeds_BTE, mask_BT, decoding=decoding, ids=ids, start_id=self.start_id
            )

    def check(self, decoding: Decoding) -> None:
        """See LanguageModel.check: contrastive search compares the report with the prompt, which is encoded here."""
        if decoding.penalty_alpha is not None:
            raise UserError(
                "generation.penalty_alpha (contrastive search) is for decoder-only language models, this "
                "one is an encoder-decoder: use generation=greedy, beam3 or nucleus"
            )
