"""Likelihood of the references under a model: perplexity per token, character and word.

One forward pass over a split, or over a fixed part of a large one, with each reference in full and its EOS token.
Perplexities per character and per word compare models with different tokenizers; perplexity per token does not.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import torch

from r2gen.config.plain import Plain
from r2gen.data.collate import NO_TARGET, Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.data.reports import Study
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.progress import bar

_LARGEST_EXPONENT = 700  # math.exp overflows a little above it


class Teacher(Protocol):
    """A model that gives the negative log-likelihood of reports in nats, [B], and knows which texts it can encode."""

    def nats(self, batch: Batch) -> torch.Tensor: ...

    def keeps(self, text: str) -> bool: ...

    def eval(self) -> object: ...


@dataclass(frozen=True)
class Likelihood:
    """Sums over some studies of a split. EOS tokens count in nats and tokens, not in characters and words."""

    studies: int
    nats: float
    tokens: int
    characters: int
    words: int
    altered: int  # references that the tokenizer does not decode to themselves; their nats are those of another text

    def entry(self) -> Plain:
        """The sums and the perplexities, as metrics.json has them. A perplexity that overflows is null."""
        perplexities = {
            name: _perplexity(self.nats / count)
            for name, count in (("token", self.tokens), ("character", self.characters), ("word", self.words))
        }
        return (
            asdict(self)
            | {f"perplexity_per_{name}": value for name, value in perplexities.items()}
            | {"bits_per_character": self.nats / math.log(2) / self.characters}
        )


def sample(studies: Sequence[Study], most: int | None) -> list[Study]:
    """At most so many studies (None: all), in their order: those whose ids have the lowest SHA-256.

    They do not depend on the order of the split or on the run, so that runs on the same data compare.
    """
    if most is None or len(studies) <= most:
        return list(studies)
    lowest = sorted(studies, key=lambda study: hashlib.sha256(study.id.encode()).digest())[:most]
    chosen = {study.id for study in lowest}
    return [study for study in studies if study.id in chosen]


def likelihood(
    model: Teacher,
    dataset: StudyDataset,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    stop: StopRequest | None = None,
    title: str = "likelihood",
) -> Likelihood:
    """The sums over every study of a data set, each counted once, over all ranks. Every rank gets them.

    Raises Stopped after a signal.
    """
    model.eval()
    loader = evaluation_loader(
        dataset, batch_size=batch_size, rank=dist.rank(), world=dist.world(), workers=workers, pin=device.type == "cuda"
    )
    texts = {study.id: study.report for study in dataset.studies}
    own: list[tuple[str, int, bool]] = []  # study, tokens, and whether its text is altered
    computed: list[torch.Tensor] = []  # nats of each batch, read at the end: a GPU would wait for the CPU after each
    with bar(total=len(loader), title=title, unit="batch", shown=dist.is_first()) as shown:
        for batch in loader:
            if stop is not None:
                stop.leave_if_requested()
            with torch.inference_mode():
                computed.append(model.nats(batch.to(device)))
            tokens = (batch.report_BT != NO_TARGET).sum(dim=1).tolist()
            own += zip(batch.ids, tokens, [not model.keeps(texts[id]) for id in batch.ids], strict=True)
            shown.update()
    own_nats = [nats for nats_B in computed for nats in nats_B.tolist()]
    studies = [(*study, nats) for rank in dist.gather((own, own_nats)) for study, nats in zip(*rank, strict=True)]
    assert Counter(id for id, *_ in studies) == Counter(list(texts)), "studies scored more or less than once"
    return Likelihood(
        studies=len(texts),
        nats=math.fsum(nats for *_, nats in studies),
        tokens=sum(tokens for _, tokens, _, _ in studies),
        characters=sum(map(len, texts.values())),
        words=sum(len(text.split()) for text in texts.values()),
        altered=sum(altered for _, _, altered, _ in studies),
    )


def _perplexity(nats: float) -> float | None:
    return math.exp(nats) if nats < _LARGEST_EXPONENT else None
