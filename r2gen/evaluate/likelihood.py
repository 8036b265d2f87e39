"""How likely a model finds the references: perplexity a token, and a character and a word, which compare across
tokenizers. One forward pass over a split, each reference in full with its end sign."""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from tqdm import tqdm

from r2gen.data.collate import NO_TARGET, Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest


class Teacher(Protocol):
    """Gives the nats [B] of each study's report, and says whether a text survives its tokenizer."""

    def nats(self, batch: Batch) -> torch.Tensor: ...

    def keeps(self, text: str) -> bool: ...

    def eval(self) -> object: ...


@dataclass(frozen=True)
class Likelihood:
    """Sums over the studies of a split. Nats count the end signs, and so do tokens; characters and words do not."""

    nats: float
    tokens: int
    characters: int
    words: int
    altered: int  # references that do not survive the tokenizer: their nats are those of another text

    def entry(self) -> dict[str, Any]:
        """The sums and what follows from them, for metrics.json. A perplexity too large for a number is null."""
        per = {
            name: _exp(self.nats / count)
            for name, count in (("token", self.tokens), ("character", self.characters), ("word", self.words))
        }
        return (
            asdict(self)
            | {f"perplexity_per_{name}": value for name, value in per.items()}
            | {"bits_per_character": self.nats / math.log(2) / self.characters}
        )


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
    """Sums over every study of a split exactly once, over all ranks, the same on each. Raises Stopped."""
    model.eval()
    loader = evaluation_loader(
        dataset, batch_size=batch_size, rank=dist.rank(), world=dist.world(), workers=workers, pin=device.type == "cuda"
    )
    found: list[tuple[str, float, int]] = []
    for batch in tqdm(loader, desc=title, unit="batch", disable=None if dist.is_first() else True, leave=False):
        if stop is not None:
            stop.leave_if_requested()
        with torch.inference_mode():
            nats = model.nats(batch.to(device)).tolist()
        tokens = (batch.report_BT != NO_TARGET).sum(dim=1).tolist()
        found += zip(batch.ids, nats, tokens, strict=True)
    found = [one for rank in dist.gather(found) for one in rank]
    texts = {study.id: study.report for study in dataset.studies}
    assert Counter(study for study, _, _ in found) == Counter(list(texts)), "studies scored more or less than once"
    return Likelihood(
        nats=math.fsum(nats for _, nats, _ in found),
        tokens=sum(tokens for _, _, tokens in found),
        characters=sum(map(len, texts.values())),
        words=sum(len(text.split()) for text in texts.values()),
        altered=sum(not model.keeps(text) for text in texts.values()),
    )


def _exp(nats: float) -> float | None:
    return math.exp(nats) if nats < 700 else None
