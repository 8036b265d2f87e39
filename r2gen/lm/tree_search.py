"""Decoding any number of studies in the slots of tree_decoding.py, which are refilled as studies end."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice

import torch
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.lm import few_rows, tree_kernel
from r2gen.lm.compile import CompiledLayers
from r2gen.lm.padding import right_pad
from r2gen.lm.protocol import DecodingPlan, Prompts
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.lm.tree_attention import NAME, attending_by
from r2gen.lm.tree_decoding import GROUP, TreeDecoder, Waiting, computed_together

# E width of the model, T positions of a prompt
RESERVED_BYTES = 3 * 2**30  # for activations of prompts, and what other parts of the process allocate
SCORE_BYTES = 24  # per beam and token of the vocabulary: logits, log-probabilities and sums in fp32
STEPS_PER_LOOK = 8  # on a GPU, which would wait for the host each time that it asks which studies have ended
GROUPS_READ = 2  # of prompts at each look, until as many wait as there are slots


class _Queue:
    """Studies that wait for a slot, and the source of more."""

    def __init__(self, source: Iterator[Waiting]) -> None:
        self.waiting = deque[Waiting]()
        self.exhausted = False
        self._source = source

    def read(self, count: int) -> None:
        """Let so many more studies wait, if there are as many; none if the count is negative."""
        studies = list(islice(self._source, max(0, count)))
        self.exhausted = self.exhausted or len(studies) < count
        self.waiting += studies


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
        self.opening_PE: torch.Tensor | None = None

    def run(
        self, prompts: Iterable[Prompts], opening_PE: torch.Tensor | None = None
    ) -> Iterator[tuple[str, list[int]]]:
        """The token ids of each study, in the order in which they end. At most as many prompts wait as there are slots.

        All prompts begin with the embeddings `opening_PE`. They may differ between calls only if the model trains.
        """
        queue = _Queue(_studies(prompts))
        self.opening_PE = opening_PE
        with ExitStack() as stack:
            stack.enter_context(attending_by(self.model, NAME))
            if self.layers is not None:
                stack.enter_context(self.layers.used())
                stack.enter_context(few_rows.used(self.model))
            self._begin()
            ended: list[tuple[Waiting, list[int]]] = []
            self._read(queue, groups=1)
            while queue.waiting or self._busy():
                decoder, fills = self._launch(queue)
                # While the GPU computes, the host gives out the last reports and takes in more prompts.
                for study, ids in ended:
                    yield study.id, ids
                self._read(queue, groups=1 if fills else GROUPS_READ)
                ended = decoder.ended() if decoder is not None and not fills else []
                if decoder is None:
                    self._halve(queue)
            for study, ids in ended:
                yield study.id, ids

    def _begin(self) -> None:
        """Free the slots of the last run. If the model trains, the keys of their opening are computed again."""
        if self.decoder is None:
            return
        self.decoder.clear()
        if self.opening_PE is not None and any(weight.requires_grad for weight in self.model.parameters()):
            try:
                self.decoder.compute_opening(self.opening_PE)
            except torch.OutOfMemoryError:
                self.close()  # others are opened, of which there may be fewer

    def _read(self, queue: _Queue, *, groups: int) -> None:
        """Read so many groups of prompts, but no more than there are slots.

        If their lengths differ before the first token, as many as slots are read: all must be as wide as the longest.
        """
        most = groups * computed_together(self.model, self.slots)
        queue.read(min(most, self.slots - len(queue.waiting)))
        if self.decoder is not None and self.decoder.advanced:
            return
        lengths = {len(study.embeds_TE) for study in queue.waiting}
        if len(lengths) > 1 or (self.decoder is not None and max(lengths, default=0) > self.decoder.width):
            queue.read(self.slots - len(queue.waiting))

    def _busy(self) -> bool:
        return self.decoder is not None and any(self.decoder.studies)

    def close(self) -> None:
        """Free the memory of the slots."""
        self.decoder = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _launch(self, queue: _Queue) -> tuple[TreeDecoder | None, bool]:
        """Fill free slots and advance, without waiting for the GPU; None if it is out of memory.

        The second value is whether slots are free because too few prompts wait. Then no slot advances yet.
        """
        try:
            longest = max((len(study.embeds_TE) for study in queue.waiting), default=0)
            if self.decoder is not None and longest > self.decoder.width and not self.decoder.advanced:
                self._take_back(queue)  # rather than decode with a part of the slots, which are too narrow
            if not self._busy() and (self.decoder is None or longest > self.decoder.width):
                self._open(longest)
            decoder = self.decoder
            assert decoder is not None
            if longest <= decoder.width:  # else the slots must be empty first, and then get wider
                _fill(decoder, queue)
            fills = not queue.exhausted and len(queue.waiting) < decoder.waits_for and not all(decoder.studies)
            if not fills:
                for _ in range(STEPS_PER_LOOK if decoder.device.type == "cuda" else 1):
                    decoder.advance()
            return decoder, fills
        except torch.OutOfMemoryError:
            if self.slots == 1:
                raise
            return None, False

    def _open(self, width: int) -> None:
        self.close()
        device = self.model.get_input_embeddings().get_parameter("weight").device
        if device.type == "cuda":
            self.slots = min(self.slots, slots_that_fit(self.model, self.decoding, width=width))
        self.decoder = TreeDecoder(
            self.model, self.tokenizer, self.decoding, slots=self.slots, width=width, opening_PE=self.opening_PE
        )

    def _halve(self, queue: _Queue) -> None:
        """Start again with half as many slots."""
        self._take_back(queue)
        self.slots = self.slots // 2
        self.close()

    def _take_back(self, queue: _Queue) -> None:
        """Let the studies in the slots wait again, before the others."""
        if self.decoder is not None:
            queue.waiting.extendleft(reversed([study for study in self.decoder.studies if study is not None]))
            self.decoder.clear()


def _fill(decoder: TreeDecoder, queue: _Queue) -> None:
    """Put prompts into free slots, as many as are computed together; fewer only if no more will come."""
    while queue.waiting:
        needed = min(decoder.waits_for, len(queue.waiting)) if queue.exhausted else decoder.waits_for
        free = len(decoder.free())
        if min(free, len(queue.waiting)) < needed:
            break
        count = min(free, decoder.group, len(queue.waiting))
        decoder.admit([queue.waiting.popleft() for _ in range(count)])


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
