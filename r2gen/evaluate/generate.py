"""Reports of a whole split: each rank generates its share, and every study has exactly one report."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
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

Finished = Callable[[Sequence[Prediction]], None]


class Generator(Protocol):
    """A model that writes a report for each study of a batch."""

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
    finished: Finished | None = None,
) -> list[Prediction]:
    """One prediction per study, in the data set's order. Every rank gets all of them. Raises Stopped after a signal.

    `finished` is called on each rank with new predictions of this rank as soon as they exist, in any order.
    """
    model.eval()
    references = {study.id: study.report for study in dataset.studies}
    loader = evaluation_loader(
        dataset, batch_size=batch_size, rank=dist.rank(), world=dist.world(), workers=workers, pin=device.type == "cuda"
    )
    own: list[Prediction] = []
    hidden = None if dist.is_first() else True  # None: shown on a terminal only
    with tqdm(total=len(dataset), desc=title, unit=" reports", disable=hidden, leave=False) as progress:
        for batch in loader:
            if stop is not None:
                stop.leave_if_requested()
            began = time.monotonic()
            reports = model.generate(batch.to(device), decoding)
            seconds = round((time.monotonic() - began) / len(reports), 4)
            new = [
                Prediction(id, report.text, references[id], len(report.ids), report.finish, seconds)
                for id, report in zip(batch.ids, reports, strict=True)
            ]
            own += new
            progress.update(min(len(new) * dist.world(), len(dataset) - progress.n))  # the ranks are equally fast
            if finished is not None:
                finished(new)
    predictions = [prediction for rank in dist.gather(own) for prediction in rank]
    return merged(predictions, [study.id for study in dataset.studies])


def merged(predictions: list[Prediction], ids: list[str]) -> list[Prediction]:
    """The predictions in the order of `ids`, which must have exactly one each."""
    count = Counter(prediction.id for prediction in predictions)
    assert count == Counter(ids), f"studies generated more or less than once: {(count - Counter(ids)).most_common(3)}"
    by_id = {prediction.id: prediction for prediction in predictions}
    return [by_id[id] for id in ids]
