"""Reports for a whole split: each rank takes its share, and every study is there exactly once."""

import time
from collections import Counter
from typing import Protocol

import torch
from tqdm import tqdm

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.evaluate.predictions import Prediction
from r2gen.lm.protocol import Generated
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest


class Generator(Protocol):
    def generate(self, batch: Batch, decoding: Decoding) -> list[Generated]: ...

    def eval(self) -> object: ...


def predict(
    model: Generator,
    dataset: StudyDataset,
    decoding: Decoding,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    stop: StopRequest | None = None,
    title: str = "generate",
) -> list[Prediction]:
    """One prediction a study, in the data set's order, on every rank. Raises Stopped when a signal asked for it."""
    model.eval()
    references = {study.id: study.report for study in dataset.studies}
    loader = evaluation_loader(
        dataset, batch_size=batch_size, rank=dist.rank(), world=dist.world(), workers=workers, pin=device.type == "cuda"
    )
    found: list[Prediction] = []
    for batch in tqdm(loader, desc=title, unit="batch", disable=None if dist.is_first() else True, leave=False):
        if stop is not None:
            stop.leave_if_requested()
        began = time.monotonic()
        reports = model.generate(batch.to(device), decoding)
        seconds = round((time.monotonic() - began) / len(reports), 4)
        found += [
            Prediction(study, one.text, references[study], len(one.ids), one.finish, seconds)
            for study, one in zip(batch.ids, reports, strict=True)
        ]
    return merged([one for rank in dist.gather(found) for one in rank], [study.id for study in dataset.studies])


def merged(predictions: list[Prediction], ids: list[str]) -> list[Prediction]:
    """The predictions in the order of `ids`; every id must have come exactly once."""
    count = Counter(one.id for one in predictions)
    assert count == Counter(ids), f"studies generated more or less than once: {(count - Counter(ids)).most_common(3)}"
    by_id = {one.id: one for one in predictions}
    return [by_id[study] for study in ids]
