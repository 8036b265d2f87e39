"""Decoding in a fixed number of slots, of which each holds one study as a tree (see tree_attention).

A slot gets the next study as soon as its own has ended, so that no study waits for the longest report of a batch. On a
GPU a step is one CUDA graph. In 16 bits every kernel always sees the same shapes, so that the rounding of a report does
not depend on the studies next to it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.data.collate import moved
from r2gen.lm import few_rows, tree_kernel
from r2gen.lm.beams import Beams, TokenChoice
from r2gen.lm.compile import CompiledLayers
from r2gen.lm.fp8 import rounds_activations
from r2gen.lm.padding import right_pad
from r2gen.lm.prompt_graph import PromptStates
from r2gen.lm.protocol import DecodingPlan, Prompts
from r2gen.lm.study_noise import StudyNoise
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.lm.tree_attention import NAME, Tree, UnsupportedAttentionError, attending_by, attending_to

# R prompts that are computed together, S slots, K beams, G tokens of a report, T positions of a prompt, E width
RESERVED_BYTES = 3 * 2**30  # for activations of prompts, and what other parts of the process allocate
SCORE_BYTES = 24  # per beam and token of the vocabulary: logits, log-probabilities and sums in fp32
# of the difference between the logits of tree and model, relative to their norm
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
TOLERANCE_OF_FP8 = 0.3
STEPS_PER_LOOK = 8  # on a GPU, which would wait for the host each time that it asks which studies have ended
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

    Raises UnsupportedAttentionError in the first step if the model's attention needs more than a tree has.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, decoding: Decoding, *, slots: int, width: int
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
        self.beams.length_S.fill_(1)  # an empty slot computes the first token after a prompt of one position
        self.tree = Tree(
            columns=width + decoding.max_new_tokens * decoding.num_beams,
            prompt_S=torch.ones(slots, dtype=torch.long, device=self.device),
            fed_S=torch.ones(slots, dtype=torch.long, device=self.device),
            ancestors_SKG=self.beams.ancestors_SKG,
            kernel=tree_kernel.available(model),
        )
        self.prompt_states = PromptStates(model, self.tree)
        self.noise = StudyNoise(decoding.seed, slots=slots, device=self.device) if decoding.do_sample else None
        # In 16 bits prompts are computed in groups of one size, which wait until as many slots are free.
        self.group = max(1, min(GROUP, slots // 2), slots // SLOTS_PER_GROUP) if self.tree.kernel else slots
        self.waits_for = self.group if self.tree.kernel else 1
        self.studies: list[Waiting | None] = [None] * slots
        self.used_columns = [0] * slots  # at most, by slot
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captures = self.tree.kernel and self.choose.stops is None  # stop texts are decoded on the host

    def clear(self) -> None:
        """Free all slots, also if the last run was left before its end."""
        self.beams.live_S.fill_(False)
        self.studies = [None] * self.slots

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
        embeds_RTE = padded([study.embeds_TE for study in studies], count, width)
        states_RTE, logits = self.prompt_states(embeds_RTE, rows)
        logits_RV = logits(states_RTE[torch.arange(len(studies), device=self.device), prompt_R - 1])
        noise_RV = None
        if self.noise is not None:
            self.noise.seat(slots, [study.id for study in studies], vocabulary=logits_RV.shape[1])
            noise_RV = self.noise.draw(slots)[rows]
        logits_RKV = logits_RV[:, None].expand(-1, self.decoding.num_beams, -1)
        self.beams.put(rows, self.choose(self.start(len(studies)), logits_RKV, noise_RV))
        self.tree.prompt_S[rows] = prompt_R

    def advance(self) -> None:
        """One more token for every live study."""
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


class TreeSearch:
    """Decodes any number of studies with at most `plan.slots` at a time, or fewer if the GPU has too little memory.

    Keys, values and graph stay in memory for the next call of `run`, until `close`.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ReportTokenizer, decoding: Decoding, plan: DecodingPlan
    ) -> None:
        self.model, self.tokenizer, self.decoding, self.plan = model, tokenizer, decoding, plan
        self.slots = plan.slots
        compiled = plan.compiled and tree_kernel.available(model)
        self.layers = CompiledLayers(model) if compiled else None
        self.decoder: TreeDecoder | None = None

    def run(self, prompts: Iterable[Prompts]) -> Iterator[tuple[str, list[int]]]:
        """The token ids of each study, in the order in which they end. Prompts are taken when slots are free."""
        source, waiting = _studies(prompts), deque[Waiting]()
        if self.decoder is not None:
            self.decoder.clear()
        with ExitStack() as stack:
            stack.enter_context(attending_by(self.model, NAME))
            if self.layers is not None:
                stack.enter_context(self.layers.used())
                stack.enter_context(few_rows.used(self.model))
            ended: list[tuple[Waiting, list[int]]] = []
            waiting.extend(islice(source, self.slots))
            while waiting or self._busy():
                decoder = self._launch(waiting)
                # While the GPU computes, the host gives out the last reports and takes in as many prompts as slots.
                for study, ids in ended:
                    yield study.id, ids
                waiting.extend(islice(source, max(0, self.slots - len(waiting))))
                ended = decoder.ended() if decoder is not None else []
                if decoder is None:
                    self._halve(waiting)
            for study, ids in ended:
                yield study.id, ids

    def _busy(self) -> bool:
        return self.decoder is not None and any(self.decoder.studies)

    def close(self) -> None:
        """Free the memory of the slots."""
        self.decoder = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _launch(self, waiting: deque[Waiting]) -> TreeDecoder | None:
        """Fill free slots and advance, without waiting for the GPU; None if it is out of memory."""
        try:
            longest = max((len(study.embeds_TE) for study in waiting), default=0)
            if not self._busy() and (self.decoder is None or longest > self.decoder.width):
                self._open(longest)
            decoder = self.decoder
            assert decoder is not None
            if longest <= decoder.width:  # else the slots must be empty first, and then get wider
                _admit(decoder, waiting)
            for _ in range(STEPS_PER_LOOK if decoder.device.type == "cuda" else 1):
                decoder.advance()
            return decoder
        except torch.OutOfMemoryError:
            if self.slots == 1:
                raise
            return None

    def _open(self, width: int) -> None:
        self.close()
        device = self.model.get_input_embeddings().get_parameter("weight").device
        if device.type == "cuda":
            self.slots = min(self.slots, slots_that_fit(self.model, self.decoding, width=width))
        self.decoder = TreeDecoder(self.model, self.tokenizer, self.decoding, slots=self.slots, width=width)

    def _halve(self, waiting: deque[Waiting]) -> None:
        """Start again with half as many slots; the studies in them go first."""
        if self.decoder is not None:
            waiting.extendleft(reversed([study for study in self.decoder.studies if study is not None]))
        self.slots = self.slots // 2
        self.close()


def padded(embeds: Sequence[torch.Tensor], count: int, width: int) -> torch.Tensor:
    """Prompts of different lengths as [count, width, E]; what fills the rest does not matter, but is finite."""
    lengths = torch.tensor([len(embeds_TE) for embeds_TE in embeds])
    index_RT = torch.zeros(count, width, dtype=torch.long)
    index_RT[: len(embeds)] = (lengths.cumsum(dim=0) - lengths)[:, None] + torch.arange(width)
    index_RT[: len(embeds)][torch.arange(width) >= lengths[:, None]] = 0
    embeds_NE = torch.cat(list(embeds))
    return embeds_NE.index_select(0, moved(index_RT.flatten(), embeds_NE.device)).view(count, width, -1)


def _admit(decoder: TreeDecoder, waiting: deque[Waiting]) -> None:
    while waiting and len(decoder.free()) >= min(decoder.waits_for, len(waiting)):
        count = min(len(decoder.free()), decoder.group, len(waiting))
        decoder.admit([waiting.popleft() for _ in range(count)])


def _studies(prompts: Iterable[Prompts]) -> Iterator[Waiting]:
    for batch in prompts:
        embeds_BTE, _ = right_pad(batch.embeds_BTE, batch.mask_BT)
        lengths = batch.mask_BT.long().sum(dim=1).tolist()
        for id, embeds_TE, length in zip(batch.ids, embeds_BTE, lengths, strict=True):
            yield Waiting(id, embeds_TE[:length])


def slots_that_fit(model: PreTrainedModel, decoding: Decoding, *, width: int) -> int:
    """The number of slots for which the GPU has memory, apart from RESERVED_BYTES for activations."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    column = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    scores = SCORE_BYTES * decoding.num_beams * config.vocab_size
    free = torch.cuda.mem_get_info()[0] - RESERVED_BYTES
    slots = free // ((width + decoding.max_new_tokens * decoding.num_beams) * column + scores)
    return max(1, slots - slots % GROUP if slots > GROUP else slots)


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
    try:
        with attending_by(model, NAME):
            for number, prompt_TE in enumerate(prompts):
                decoder.admit([Waiting(str(number), prompt_TE)])
            decoder.captures = False
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
