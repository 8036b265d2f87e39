"""A decoder-only language model, for which prompt and report are one sequence of embeddings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET, moved
from r2gen.errors import UserError
from r2gen.lm import tree_kernel
from r2gen.lm.decoding import check_ids, check_room, decode, report
from r2gen.lm.last_layer import last_layer_at
from r2gen.lm.opening import keep_opening
from r2gen.lm.packed_attention import follows_opening, packed, packs_on, supports_packing
from r2gen.lm.padding import left_pad, longest_prompt
from r2gen.lm.precise import double_precision
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts, Reports
from r2gen.lm.rows import Layout, layout
from r2gen.lm.target_loss import decode_states, target_nats
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.lm.tree_attention import supports_tree
from r2gen.lm.tree_decoding import agrees_with_model
from r2gen.lm.tree_search import TreeSearch
from r2gen.lm.triton_support import triton_works

# B batch, T positions of the prompt, L tokens of the report, R rows of S positions, M targets, E width, N = B x L
MOST_SEARCHES = 2  # whose slots may be kept: self-critical training samples and decodes greedily in turn


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
        self.packs: bool | None = None  # whether the loss has all studies in one row; None: where that saves time
        self.opening: Sequence[int] = ()  # the ids that every prompt begins with, if they are known
        self.dropout = 0.0
        self.keeps_slots = False  # and compiled layers, between calls of generate on a GPU
        self.decoded: DecodingPlan | None = None
        self._kept: tuple[object, ...] = ()  # the opening whose keys and values the attention modules have
        self.tree: bool | None = None
        self._searches: list[TreeSearch] = []  # the newest is last
        model.generation_config = GenerationConfig()  # the defaults of the checkpoint must not apply

    @property
    def dim(self) -> int:
        return embedding_width(self.model)

    def embed(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def loss(
        self, prompt_BTE: torch.Tensor, mask_BT: torch.Tensor, report_BL: torch.Tensor, *, label_smoothing: float = 0.0
    ) -> torch.Tensor:
        """See LanguageModel.loss. Real positions are moved together, so that no mask is needed.

        The first token of the report is predicted from the last real position of the prompt, and padding changes no
        position, ALiBi distance or sliding window. Where `packs`, all studies are in one row, without padding, and the
        `opening` is computed once. Rows and last hidden states have `dropout` while the model trains.
        """
        device, report_BL = prompt_BTE.device, report_BL.cpu()
        packs = self._packs_on(device) if self.packs is None else self.packs
        opening = self._shared_opening(mask_BT, report_BL, device) if packs else 0
        plan = layout(mask_BT, report_BL, packed=packs, opening=opening).to(device)
        ids_N = moved(report_BL.clamp(min=0).flatten(), device)
        report_NE = self.embed(ids_N)
        embeds_NE = torch.cat([prompt_BTE.flatten(0, 1).to(report_NE.dtype), report_NE]).to(self.model.dtype)
        rows_RSE = embeds_NE.index_select(0, plan.source_RS.flatten()).view(*plan.source_RS.shape, -1)
        # A copy, since torch.compile would compile the first layer apart from the others if its input were a view.
        rows_RSE = self._dropped(rows_RSE.clone())
        within = partial(self._computing, plan)
        with recompute_activations(self.model, enabled=self.gradient_checkpointing, within=within), within():
            packing = plan.packing() if packs else {}
            hidden_RSE, logits = decode_states(self.model, inputs_embeds=rows_RSE, **packing)
        hidden_ME = self._dropped(hidden_RSE.flatten(0, 1).index_select(0, plan.before_M))
        head = self.model.get_output_embeddings()
        # With ZeRO 3 the ranks must call the head equally often, but need not have equally many chunks of targets.
        frozen = not any(weight.requires_grad or hasattr(weight, "ds_id") for weight in head.parameters())
        target_M = ids_N.index_select(0, plan.column_M)
        nats_M = target_nats(hidden_ME, target_M, logits, frozen=frozen, label_smoothing=label_smoothing)
        nats_N = nats_M.new_zeros(len(ids_N)).index_copy(0, plan.column_M, nats_M)
        return nats_N.view(report_BL.shape).sum(dim=1)

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
                    for id, ids in search.run(checked, self._opening_once()):
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
        for search in self._searches:
            search.close()
        self._searches = []

    @contextmanager
    def _computing(self, plan: Layout) -> Iterator[None]:
        """How the layers compute the rows of a plan."""
        with ExitStack() as stack:
            if plan.starts is not None:
                stack.enter_context(packed(self.model))
            if supports_packing(self.model):
                stack.enter_context(last_layer_at(self.model, plan.before_M))
            yield

    def _packs_on(self, device: torch.device) -> bool:
        drops_attention = self.model.training and bool(getattr(self.model.config, "attention_dropout", 0.0))
        return packs_on(self.model, device) and not drops_attention  # the kernel has no dropout

    def _shared_opening(self, mask_BT: torch.Tensor, report_BL: torch.Tensor, device: torch.device) -> int:
        """How many positions of the prompts need not be computed, since their keys and values are kept."""
        length, dropped = len(self.opening), self.dropout and self.model.training
        if length == 0 or dropped or not follows_opening(self.model, device, longest=length):
            return 0
        wanted = (tuple(self.opening), device, self.model.dtype)
        if self._kept != wanted:
            if any(weight.requires_grad for weight in self.model.parameters()):
                return 0
            with evaluation_mode(self.model):
                keep_opening(self.model, self._embedded_opening(device)[None])
            self._kept = wanted  # also if these studies are too long: with ZeRO 3 all ranks must call the layers then
        longest = int(((report_BL != NO_TARGET).sum(dim=1) + mask_BT.cpu().sum(dim=1)).max())
        return length if follows_opening(self.model, device, longest) else 0

    def _embedded_opening(self, device: torch.device) -> torch.Tensor:
        """The embeddings [P, E] of the opening."""
        return self.embed(torch.tensor(self.opening, device=device)).to(self.model.dtype)

    def _opening_once(self) -> torch.Tensor | None:
        """The embedded opening, if decoding computes it once: in 16 bits on a GPU."""
        if not self.opening or not tree_kernel.available(self.model):
            return None
        return self._embedded_opening(self.model.get_input_embeddings().get_parameter("weight").device)

    def _dropped(self, states: torch.Tensor) -> torch.Tensor:
        return F.dropout(states, self.dropout) if self.dropout and self.model.training else states

    def trust_tree(self) -> None:
        """Let a tree decode this model without trying it; not on several GPUs, or on one where Triton does not work.

        It must have been tried with these files and packages on such a device.
        """
        if supports_tree(self.model) and (triton_works() or not tree_kernel.available(self.model)):
            self.tree = True

    def _supports_tree(self) -> bool:
        if self.tree is None:
            with evaluation_mode(self.model):
                self.tree = supports_tree(self.model) and agrees_with_model(self.model, self.tokenizer)
        return self.tree

    def _search_of(self, decoding: Decoding, plan: DecodingPlan) -> TreeSearch:
        same = [search for search in self._searches if (search.decoding, search.plan) == (decoding, plan)]
        if same and self.keeps_slots:
            return same[0]
        if not self.keeps_slots or len(self._searches) == MOST_SEARCHES:
            self.free_slots()
        self._searches.append(TreeSearch(self.model, self.tokenizer, decoding, plan))
        return self._searches[-1]

    def _checked(self, batch: Prompts, decoding: Decoding) -> Prompts:
        """The prompts in the model's precision, if there is room for their reports."""
        check_room(self.model, prompt=longest_prompt(batch.mask_BT), new=decoding.max_new_tokens)
        return Prompts(batch.ids, batch.embeds_BTE.to(self.model.dtype), batch.mask_BT)


def embedding_width(model: PreTrainedModel) -> int:
    """The width of the input embeddings, which a few families project to that of their layers (RemBERT, OPT-350m)."""
    return int(model.get_input_embeddings().get_parameter("weight").shape[1])


@contextmanager
def recompute_activations(
    model: nn.Module, *, enabled: bool, within: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[None]:
    """Recompute the activations of the layers in the backward pass, then too in the context `within`.

    transformers does so only for layers in train(), and a frozen model is in eval(). So the flag of the layers is set
    here and reset at the end; dropout, which is in their submodules, is unaffected.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if enabled else []
    before = [layer.training for layer in layers]

    def recomputed(compute: Callable[..., Any], *states: Any) -> Any:
        if torch.compiler.is_compiling():  # the compiler sees both passes at once, within the context
            return checkpoint(compute, *states, use_reentrant=False)
        return checkpoint(compute, *states, use_reentrant=False, context_fn=lambda: (nullcontext(), within()))

    for layer in layers:
        layer.training = layer.gradient_checkpointing = True
        layer.__dict__["_gradient_checkpointing_func"] = recomputed
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
