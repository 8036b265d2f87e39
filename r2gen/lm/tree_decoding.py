"""Decoding in a fixed number of slots, of which each holds one study as a tree (see tree_attention).

A slot gets the next study as soon as its own has ended, so that no study waits for the longest report of a batch. On a
GPU a step is one CUDA graph. In 16 bits every kernel always sees the same shapes, so that the rounding of a report does
not depend on the studies next to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.data.collate import moved
from r2gen.lm import tree_kernel
from r2gen.lm.beams import Beams, TokenChoice
from r2gen.lm.fp8 import rounds_activations
from r2gen.lm.prompt_graph import PromptStates
from r2gen.lm.study_noise import StudyNoise
from r2gen.lm.target_loss import decode_states
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.lm.tree_attention import NAME, Tree, UnsupportedAttentionError, attending_by, attending_to

# R prompts that are computed together, S slots, K beams, G tokens of a report, T positions of a prompt, E width
# of the difference between the logits of tree and model, relative to their norm
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
TOLERANCE_OF_FP8 = 0.3
# What a class raises whose attention does not fit a tree, or that expects a mask.
UNSUPPORTED = (UnsupportedAttentionError, TypeError, ValueError, RuntimeError, AttributeError)
GROUP = 8  # at least so many new prompts are computed together, if there are twice as many slots; else half of them
SLOTS_PER_GROUP = 8  # with more slots: an 8th of them


@dataclass(frozen=True)
class Waiting:
    """A study that waits for a slot, or that may have to start again in fewer slots."""

    id: str
    embeds_TE: torch.Tensor


class TreeDecoder:
    """The slots of one model and one decoding profile. `width` is the longest prompt that they take.

    All prompts begin with the `opening`, whose keys and values are computed once.

    Raises UnsupportedAttentionError in the first step if the model's attention needs more than a tree has.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: ReportTokenizer,
        decoding: Decoding,
        *,
        slots: int,
        width: int,
        opening_PE: torch.Tensor | None = None,
    ) -> None:
        self.model, self.decoding, self.slots, self.width = model, decoding, slots, width
        self.device = model.get_input_embeddings().get_parameter("weight").device
        self.choose = TokenChoice(decoding, tokenizer, device=self.device)
        self.start = partial(
            Beams.start,
            beams=decoding.num_beams,
            tokens=decoding.max_new_tokens,
            pad=tokenizer.pad_id,
            device=self.device,
        )
        self.beams = self.start(slots)
        self.beams.live_S.fill_(False)
        self.beams.length_S.fill_(1)  # an empty slot computes the first token after the opening, or after one position
        opening = 0 if opening_PE is None else len(opening_PE)
        self.tree = Tree(
            columns=width + decoding.max_new_tokens * decoding.num_beams,
            prompt_S=torch.full((slots,), max(1, opening), device=self.device),
            fed_S=torch.ones(slots, dtype=torch.long, device=self.device),
            ancestors_SKG=self.beams.ancestors_SKG,
            kernel=tree_kernel.available(model),
            opening=opening,
        )
        if opening_PE is not None:
            self.compute_opening(opening_PE)
        self.prompt_states = PromptStates(model, self.tree)
        self.noise = StudyNoise(decoding.seed, slots=slots, device=self.device) if decoding.do_sample else None
        self.group = computed_together(model, slots)
        self.waits_for = self.group if self.tree.kernel else 1
        self.studies: list[Waiting | None] = [None] * slots
        self.advanced = False  # since the slots were free
        self.used_columns = [0] * slots  # at most, by slot
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captures = self.tree.kernel and self.choose.stops is None  # stop texts are decoded on the host

    def clear(self) -> None:
        """Free all slots, also if the last run was left before its end."""
        self.beams.live_S.fill_(False)
        self.studies, self.advanced = [None] * self.slots, False

    def compute_opening(self, opening_PE: torch.Tensor) -> None:
        """Compute the keys and values of the opening, also again if weights have changed."""
        position_1P = torch.arange(len(opening_PE), device=self.device)[None]
        self.tree.begin_opening()
        # Compiling is not worth it for one pass.
        with attending_to(self.tree), torch.compiler.set_stance("force_eager"):
            decode_states(self.model, inputs_embeds=opening_PE[None], position_ids=position_1P)

    def free(self) -> list[int]:
        return [slot for slot, study in enumerate(self.studies) if study is None]

    def admit(self, studies: Sequence[Waiting]) -> None:
        """Compute the keys and values of prompts, choose their first tokens, and put them into free slots."""
        slots = self.free()[: len(studies)]
        for slot, study in zip(slots, studies, strict=True):
            self.studies[slot], self.used_columns[slot] = study, len(study.embeds_TE)
        rows = moved(torch.tensor(slots), self.device)
        lengths = [len(study.embeds_TE) for study in studies]
        prompt_R = moved(torch.tensor(lengths), self.device)
        count, width = (self.group, self.width) if self.tree.kernel else (len(studies), max(lengths))
        skipped = self.tree.opening
        embeds_RTE = padded([study.embeds_TE[skipped:] for study in studies], count, width - skipped)
        states_RTE, logits = self.prompt_states(embeds_RTE, rows)
        logits_RV = logits(states_RTE[torch.arange(len(studies), device=self.device), prompt_R - 1 - skipped])
        noise_RV = None
        if self.noise is not None:
            self.noise.seat(slots, [study.id for study in studies], vocabulary=logits_RV.shape[1])
            noise_RV = self.noise.draw(slots)[rows]
        logits_RKV = logits_RV[:, None].expand(-1, self.decoding.num_beams, -1)
        self.beams.put(rows, self.choose(self.start(len(studies)), logits_RKV, noise_RV))
        self.tree.prompt_S[rows] = prompt_R

    def advance(self) -> None:
        """One more token for every live study."""
        self.advanced = True
        for slot in range(self.slots):
            self.used_columns[slot] += self.decoding.num_beams
        self.tree.longest = min(self.tree.columns, max(self.used_columns))
        if self.noise is not None:
            self.noise.draw([slot for slot, study in enumerate(self.studies) if study is not None])
        if self.graph is not None:
            self.graph.replay()
            return
        self._step()
        if self.captures:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self._step()

    def ended(self) -> list[tuple[Waiting, list[int]]]:
        """The studies that have ended, with their token ids; their slots are free now."""
        live = self.beams.live_S.tolist()
        slots = [slot for slot, study in enumerate(self.studies) if study is not None and not live[slot]]
        if not slots:
            return []
        ids_SG = self.beams.best_SG()[torch.tensor(slots, device=self.device)].tolist()
        length_S = self.beams.length_S.tolist()
        reports = []
        for slot, ids in zip(slots, ids_SG, strict=True):
            study = self.studies[slot]
            assert study is not None
            reports.append((study, ids if self.decoding.num_beams > 1 else ids[: length_S[slot]]))
            self.studies[slot], self.used_columns[slot] = None, 0
        return reports

    def _step(self) -> None:
        logits_SKV = self.next_logits()
        self.beams.update(self.choose(self.beams, logits_SKV, None if self.noise is None else self.noise.noise_SV))

    def next_logits(self) -> torch.Tensor:
        """The logits [S, K, V] that follow the last token of each beam, whose keys and values are stored."""
        beams, tree = self.beams, self.tree
        tree.fed_S.copy_(beams.length_S)
        tree.begin()
        position_SK = (tree.prompt_S + tree.fed_S - 1)[:, None].expand(-1, self.decoding.num_beams)
        with attending_to(tree):
            logits_SKV: torch.Tensor = self.model(
                input_ids=beams.last_SK(), position_ids=position_SK, use_cache=False
            ).logits
        return logits_SKV


def computed_together(model: PreTrainedModel, slots: int) -> int:
    """How many prompts are computed together: in 16 bits on a GPU always the same number, so that all round alike."""
    return max(1, min(GROUP, slots // 2), slots // SLOTS_PER_GROUP) if tree_kernel.available(model) else slots


def padded(embeds: Sequence[torch.Tensor], count: int, width: int) -> torch.Tensor:
    """Prompts of different lengths as [count, width, E]; what fills the rest does not matter, but is finite."""
    lengths = torch.tensor([len(embeds_TE) for embeds_TE in embeds])
    index_RT = torch.zeros(count, width, dtype=torch.long)
    index_RT[: len(embeds)] = (lengths.cumsum(dim=0) - lengths)[:, None] + torch.arange(width)
    index_RT[: len(embeds)][torch.arange(width) >= lengths[:, None]] = 0
    embeds_NE = torch.cat(list(embeds))
    return embeds_NE.index_select(0, moved(index_RT.flatten(), embeds_NE.device)).view(count, width, -1)


@torch.no_grad()
def agrees_with_model(model: PreTrainedModel, tokenizer: ReportTokenizer) -> bool:
    """Whether the tree gives the logits of the model itself, for two short prompts with three tokens in two beams.

    It finds attention that counts columns, has biases, or is not called through transformers' interface.
    """
    table_VE = model.get_input_embeddings().get_parameter("weight")
    decoding = Decoding(max_new_tokens=4, num_beams=2, min_new_tokens=4)
    source = torch.Generator().manual_seed(0)
    prompts = [
        torch.randn(length, table_VE.shape[1], generator=source) * table_VE[:64].float().std().cpu()
        for length in (7, 5)
    ]
    prompts = [prompt_TE.to(table_VE.device, model.dtype) for prompt_TE in prompts]
    decoder = TreeDecoder(model, tokenizer, decoding, slots=2, width=7)
    decoder.captures = decoder.prompt_states.captures = False
    try:
        with attending_by(model, NAME):
            for number, prompt_TE in enumerate(prompts):
                decoder.admit([Waiting(str(number), prompt_TE)])
            decoder.advance()
            decoder.advance()
            decoder.tree.longest = decoder.tree.columns
            tree_SKV = decoder.next_logits()
    except torch.OutOfMemoryError:
        raise
    except UNSUPPORTED:
        return False
    tolerance = TOLERANCE_OF_FP8 if rounds_activations(model) else TOLERANCE[model.dtype]
    ids_SKG = decoder.beams.ids_SKG[:, :, :3]
    for prompt_TE, ids_KG, tree_KV in zip(prompts, ids_SKG, tree_SKV, strict=True):
        embeds_KTE = torch.cat([prompt_TE.expand(2, -1, -1), model.get_input_embeddings()(ids_KG)], dim=1)
        own_KV = model(inputs_embeds=embeds_KTE, use_cache=False).logits[:, -1]
        if not torch.dist(tree_KV.double(), own_KV.double()) < tolerance * own_KV.double().norm():
            return False
    return True
