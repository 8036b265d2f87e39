"""A decoder-only language model, for which prompt and report are one sequence of embeddings."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.errors import UserError
from r2gen.lm.decoding import check_ids, check_room, decode, report
from r2gen.lm.padding import left_pad, longest_prompt, positions
from r2gen.lm.precise import double_precision
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts, Reports
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.lm.tree_attention import supports_tree
from r2gen.lm.tree_decoding import TreeSearch, agrees_with_model

# B batch, T positions of the prompt, L tokens of the report, S = T + L, E width, V vocabulary, N = B x L


class CausalLM(nn.Module):
    """A transformers model for causal language modelling as a LanguageModel.

    With gradient_checkpointing the backward pass of `loss` recomputes the activations of the layers, also if the model
    is frozen and in eval().
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, *, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.gradient_checkpointing = gradient_checkpointing
        self.keeps_slots = False  # and compiled layers, between calls of generate on a GPU
        self.decoded: DecodingPlan | None = None
        self._agrees: bool | None = None  # whether a tree decodes this model rightly; None: not tried yet
        self._search: TreeSearch | None = None
        model.generation_config = GenerationConfig()  # the defaults of the checkpoint must not apply

    @property
    def dim(self) -> int:
        return embedding_width(self.model)

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def loss(self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor) -> torch.Tensor:
        """See LanguageModel.loss. The padding of the prompt is moved in front of its real positions.

        Then the first token of the report is predicted from the last real position of the prompt, and padding changes
        no position, ALiBi distance or sliding window.
        """
        prompt_BTE, mask_BT = left_pad(prompt_BTE, mask_BT)
        real_BL = report_BL != NO_TARGET
        report_BLE = self.embed(report_BL.where(real_BL, 0))
        embeds_BSE = torch.cat([prompt_BTE.to(report_BLE.dtype), report_BLE], dim=1)
        mask_BS = torch.cat([mask_BT.bool(), real_BL], dim=1)
        with recompute_activations(self.model, enabled=self.gradient_checkpointing):
            output = self.model(
                inputs_embeds=embeds_BSE.to(self.model.dtype),
                attention_mask=mask_BS.long(),
                position_ids=positions(mask_BS),
                logits_to_keep=report_BL.shape[1] + 1,
                use_cache=False,
            )
        return cross_entropy(output.logits[:, -report_BL.shape[1] - 1 : -1], report_BL)  # xLSTM keeps all

    @torch.no_grad()
    def generate(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, decoding: Decoding, *, ids: Sequence[str] = ()
    ) -> list[Generated]:
        """See LanguageModel.generate. Raises UserError if the report may exceed the model's positions."""
        check_ids(decoding, ids, prompts=len(mask_BT))
        prompts = Prompts(ids or [str(number) for number in range(len(mask_BT))], prompt_BTE, mask_BT)
        plan = DecodingPlan(slots=len(mask_BT), compiled=self.keeps_slots)
        reports = dict(self.stream([prompts], decoding, plan))
        return [reports[id] for id in prompts.ids]

    @torch.no_grad()
    def stream(self, prompts: Iterable[Prompts], decoding: Decoding, plan: DecodingPlan) -> Reports:
        """See LanguageModel.stream. Raises UserError if the report may exceed the model's positions."""
        with evaluation_mode(self.model), double_precision(self.model):
            checked = (self._checked(batch, decoding) for batch in prompts)
            self.decoded = replace(plan, decoder="transformers", compiled=False)
            if self.decoder_for(decoding, plan.decoder) == "tree":
                search = self._search_of(decoding, plan)
                try:
                    for id, ids in search.run(checked):
                        yield id, report(ids, self.tokenizer, decoding)
                finally:
                    self.decoded = replace(plan, decoder="tree", slots=search.slots, compiled=search.layers is not None)
                    if not self.keeps_slots:
                        self.free_slots()
                return
            for batch in checked:
                embeds_BTE, mask_BT = left_pad(batch.embeds_BTE, batch.mask_BT)
                width = longest_prompt(mask_BT)
                embeds_BTE, mask_BT = embeds_BTE[:, -width:], mask_BT[:, -width:]
                reports = decode(self.model, self.tokenizer, embeds_BTE, mask_BT, decoding=decoding, ids=batch.ids)
                yield from zip(batch.ids, reports, strict=True)

    def decoder_for(self, decoding: Decoding, wanted: DecoderName = "auto") -> DecoderName:
        """See LanguageModel.decoder_for."""
        if wanted == "transformers":
            return wanted
        if decoding.penalty_alpha is None and self._supports_tree():
            return "tree"
        if wanted == "tree":
            raise UserError(
                "evaluate.decoder=tree does not support this language model or decoding profile (contrastive search, "
                "ALiBi, bitsandbytes): use evaluate.decoder=auto"
            )
        return "transformers"

    def free_slots(self) -> None:
        """Free the memory that decoding uses, if `keeps_slots` has kept it for the next call."""
        if self._search is not None:
            self._search.close()
        self._search = None

    def _supports_tree(self) -> bool:
        if self._agrees is None:
            with evaluation_mode(self.model):
                self._agrees = supports_tree(self.model) and agrees_with_model(self.model, self.tokenizer)
        return self._agrees

    def _search_of(self, decoding: Decoding, plan: DecodingPlan) -> TreeSearch:
        if self._search is None or (self._search.decoding, self._search.plan) != (decoding, plan):
            self.free_slots()
            self._search = TreeSearch(self.model, self.tokenizer, decoding, plan)
        return self._search

    def _checked(self, batch: Prompts, decoding: Decoding) -> Prompts:
        """The prompts in the model's precision, if there is room for their reports."""
        check_room(self.model, prompt=longest_prompt(batch.mask_BT), new=decoding.max_new_tokens)
        return Prompts(batch.ids, batch.embeds_BTE.to(self.model.dtype), batch.mask_BT)


def embedding_width(model: PreTrainedModel) -> int:
    """The width of the input embeddings, which a few families project to that of their layers (RemBERT, OPT-350m)."""
    return int(model.get_input_embeddings().get_parameter("weight").shape[1])


def cross_entropy(logits_BLV: torch.Tensor, report_BL: torch.Tensor) -> torch.Tensor:
    """The cross-entropy [B], summed over the targets of each report, in fp32."""
    nats_N = F.cross_entropy(
        logits_BLV.float().flatten(0, 1), report_BL.flatten(), ignore_index=NO_TARGET, reduction="none"
    )
    return nats_N.view(report_BL.shape).sum(dim=1)


@contextmanager
def recompute_activations(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Recompute the activations of the layers in the backward pass.

    transformers does so only for layers in train(), and a frozen model is in eval(). So the flag of the layers is set
    here and reset at the end; dropout, which is in their submodules, is unaffected.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if enabled else []
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = layer.gradient_checkpointing = True
        layer.__dict__["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=False)
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training, layer.gradient_checkpointing = training, False


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval(), and at the end those modules into train() that were."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
