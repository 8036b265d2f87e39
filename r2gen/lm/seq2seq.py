"""An encoder-decoder language model (T5, Flan-T5), which encodes the prompt with the image and decodes the report."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET, moved
from r2gen.errors import UserError
from r2gen.lm.causal import embedding_width, evaluation_mode, recompute_activations
from r2gen.lm.decoding import decode
from r2gen.lm.padding import longest_prompt, right_pad
from r2gen.lm.precise import double_precision
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts, Reports
from r2gen.lm.tokenizer import ReportTokenizer

# B batch, T positions of the prompt, L tokens of the report, E width of the language model


class Seq2SeqLM(nn.Module):
    """A transformers model for conditional generation as a LanguageModel.

    Raises UserError if the checkpoint does not name the token that starts a report, and in float16, in which T5's
    activations overflow (T5 was trained in bfloat16). gradient_checkpointing is as in CausalLM, for both stacks.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, *, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        start = getattr(model.config, "decoder_start_token_id", None)
        rows = model.get_input_embeddings().get_parameter("weight").shape[0]
        if not isinstance(start, int) or not 0 <= start < rows:
            raise UserError(
                "lm.path: config.json has no decoder_start_token_id, the id that starts a report: copy it from the "
                "published checkpoint"
            )
        if model.dtype == torch.float16:
            raise UserError(
                "lm.dtype=float16: the activations of this encoder-decoder overflow: use lm.dtype=bfloat16 or float32"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.gradient_checkpointing = gradient_checkpointing
        self.start_id = int(start)
        self.tree: bool | None = False  # it has none
        self.keeps_slots = False  # it has none
        self.dropout = 0.0  # lm_rules.py refuses another value: T5 has its own dropout
        self.decoded: DecodingPlan | None = None
        model.generation_config = GenerationConfig()  # the defaults of the checkpoint must not apply

    @property
    def dim(self) -> int:
        return embedding_width(self.model)

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def loss(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor, *, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        """See LanguageModel.loss. The padding of the prompt is moved behind its real positions."""
        prompt_BTE, mask_BT = right_pad(prompt_BTE.to(self.model.dtype), mask_BT)
        report_BL = moved(report_BL, prompt_BTE.device)
        start_B1 = report_BL.new_full((len(report_BL), 1), self.start_id)
        with recompute_activations(self.model, enabled=self.gradient_checkpointing):
            output = self.model(
                inputs_embeds=prompt_BTE,
                attention_mask=mask_BT,
                decoder_input_ids=torch.cat([start_B1, report_BL[:, :-1].where(report_BL[:, :-1] != NO_TARGET, 0)], 1),
                use_cache=False,
            )
        return cross_entropy(output.logits, report_BL, label_smoothing=label_smoothing)

    @torch.no_grad()
    def generate(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding, *, ids: Sequence[str] = ()
    ) -> list[Generated]:
        """See LanguageModel.generate. The padding of the prompt is moved behind its real positions."""
        width = longest_prompt(mask_BT)
        embeds_BTE, mask_BT = right_pad(prompt_BTE, mask_BT)
        embeds_BTE, mask_BT = embeds_BTE[:, :width], mask_BT[:, :width]
        with evaluation_mode(self.model), double_precision(self.model):
            embeds_BTE = embeds_BTE.to(self.model.dtype)
            return decode(
                self.model, self.tokenizer, embeds_BTE, mask_BT, decoding=decoding, ids=ids, start_id=self.start_id
            )

    def stream(self, prompts: Iterable[Prompts], decoding: Decoding, plan: DecodingPlan) -> Reports:
        """See LanguageModel.stream."""
        self.decoded = replace(plan, decoder=self.decoder_for(decoding, plan.decoder), compiled=False)
        for batch in prompts:
            reports = self.generate(batch.embeds_BTE, batch.mask_BT, decoding, ids=batch.ids)
            yield from zip(batch.ids, reports, strict=True)

    def decoder_for(self, decoding: Decoding, wanted: DecoderName = "auto") -> DecoderName:
        """See LanguageModel.decoder_for: transformers."""
        if wanted == "tree":
            raise UserError("evaluate.decoder=tree is for decoder-only language models: use evaluate.decoder=auto")
        return "transformers"


def cross_entropy(logits_BLV: torch.Tensor, report_BL: torch.Tensor, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """The cross-entropy [B], summed over the targets of each report, in fp32."""
    nats_N = F.cross_entropy(
        logits_BLV.float().flatten(0, 1),
        report_BL.flatten(),
        ignore_index=NO_TARGET,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return nats_N.view(report_BL.shape).sum(dim=1)
