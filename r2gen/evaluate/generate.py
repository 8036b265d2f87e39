"""Reports of a whole split: each rank generates its share, and every study has exactly one report."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Protocol

import torch

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.evaluate.predictions import Prediction
from r2gen.lm.protocol import DecoderName, DecodingPlan, Reports
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.progress import bar

Finished = Callable[[Sequence[Prediction]], None]
ROWS_ON_GPU = 768  # beams of all slots: from about 300 on, a step's time grows with their number
COMPILED_FROM_STEPS = 1600  # compiling takes 8 s, and saves 2.5 to 5 ms a step of a 7B model (benchmarks/decode.py)


class Generator(Protocol):
    """A model that writes a report for each study of some batches, and yields it with the study's id."""

    @property
    def decoded(self) -> DecodingPlan | None: ...

    def stream(self, batches: Iterable[Batch], decoding: Decoding, plan: DecodingPlan) -> Reports: ...

    def eval(self) -> object: ...


def predict(
    model: Generator,
    dataset: StudyDataset,
    decoding: Decoding,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    slots: int | None = None,
    decoder: DecoderName = "auto",
    compiled: bool | None = None,
    stop: StopRequest | None = None,
    title: str = "generate",
    finished: Finished | None = None,
) -> list[Prediction]:
    """One prediction per study, in the data set's order. Every rank gets all of them. Raises Stopped after a signal.

    `batch_size` studies are encoded at a time, and at most `slots` decoded; None: `batch_size` on the CPU, and on a GPU
    as many as are fast and fit. The layers are compiled before decoding on a GPU, by default if that saves time in all.
    `finished` is called on each rank with new predictions of this rank as soon as they
    exist, in any order.
    """
    model.eval()
    references = {study.id: study.report for study in dataset.studies}
    loader = evaluation_loader(
        dataset, batch_size=batch_size, rank=dist.rank(), world=dist.world(), workers=workers, pin=device.type == "cuda"
    )
    studies = sum(len(numbers) for numbers in loader.batch_sampler or ())
    plan = plan_for(
        studies,
        decoding,
        batch_size=batch_size,
        device=device,
        slots=slots,
        decoder=decoder,
        compiled=compiled,
    )
    own: list[Prediction] = []
    began = time.monotonic()
    with (
        closing(model.stream(_moved(loader, device, stop), decoding, plan)) as reports,
        bar(total=studies, title=title, unit="report", shown=dist.is_first()) as shown,
    ):
        for id, report in reports:
            seconds = round((time.monotonic() - began) / (len(own) + 1), 4)
            own.append(Prediction(id, report.text, references[id], len(report.ids), report.finish, seconds))
            shown.update()
            if finished is not None:
                finished(own[-1:])
            if stop is not None:
                stop.leave_if_requested()
    predictions = [prediction for rank in dist.gather(own) for prediction in rank]
    return merged(predictions, [study.id for study in dataset.studies])


def plan_for(
    studies: int,
    decoding: Decoding,
    *,
    batch_size: int,
    device: torch.device,
    slots: int | None = None,
    decoder: DecoderName = "auto",
    compiled: bool | None = None,
) -> DecodingPlan:
    """How so many studies are decoded: see `predict`."""
    if slots is None:
        slots = batch_size if device.type == "cpu" else max(1, ROWS_ON_GPU // decoding.num_beams // 8 * 8)
    slots = max(1, min(slots, studies))
    if compiled is None:
        compiled = device.type == "cuda" and studies * decoding.max_new_tokens >= COMPILED_FROM_STEPS * slots
    return DecodingPlan(slots=slots, decoder=decoder, compiled=compiled)


def _moved(batches: Iterable[Batch], device: torch.device, stop: StopRequest | None) -> Iterator[Batch]:
    for batch in batches:
        if stop is not None:
            stop.leave_if_requested()
        yield batch.to(device)


def merged(predictions: list[Prediction], ids: list[str]) -> list[Prediction]:
    """The predictions in the order of `ids`, which must have exactly one each."""
    count = Counter(prediction.id for prediction in predictions)
    assert count == Counter(ids), f"studies generated more or less than once: {(count - Counter(ids)).most_common(3)}"
    by_id = {prediction.id: prediction for prediction in predictions}
    return [by_id[id] for id in ids]
