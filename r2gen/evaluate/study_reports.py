"""Reports of studies without references: threads read images while the model writes, and a fault is a result."""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from r2gen.config.context import OF_PRIOR
from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch, collate
from r2gen.data.context import StudyContext
from r2gen.data.dataset import Example
from r2gen.data.dicom_tags import with_tags
from r2gen.data.image_input import gray_image
from r2gen.data.leaks import REFUSED
from r2gen.data.listed_studies import StudyImages
from r2gen.data.reports import Study
from r2gen.errors import UserError, shown
from r2gen.evaluate.generate import plan_for
from r2gen.lm.protocol import DecoderName
from r2gen.model.report_generator import ReportGenerator

THREADS = 8  # Pillow decodes without Python's lock
_READ_AHEAD = 2  # batches


@dataclass(frozen=True)
class Written:
    """The report of a study, or why it has none."""

    id: str
    report: str
    error: str = ""


def write_reports(
    model: ReportGenerator,
    studies: Sequence[StudyImages],
    decoding: Decoding,
    *,
    batch_size: int,
    device: torch.device,
    slots: int | None = None,
    decoder: DecoderName = "auto",
    gray_bits: int | None = None,
    context: StudyContext | None = None,
) -> Iterator[Written]:
    """The report of each study as soon as it has ended, in any order; a study that cannot be read has an error.

    `batch_size` studies are encoded at a time, and as many decoded as `plan_for` plans. `context` is
    that of the run; what a study that `fills` lacks of it is taken from the headers of its DICOM images.
    """
    failed: list[Written] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # as images.read_image does, which threads cannot call
        reading = _Reading(model, pool, studies, gray_bits=gray_bits, context=context, failed=failed)
        plan = plan_for(len(studies), decoding, batch_size=batch_size, device=device, slots=slots, decoder=decoder)
        try:
            with closing(model.stream(reading.batches(batch_size, device), decoding, plan)) as reports:
                for id, report in reports:
                    yield from _taken(failed)
                    yield Written(id, report.text)
            yield from _taken(failed)
        finally:
            pool.shutdown(cancel_futures=True)


def _taken(failed: list[Written]) -> Iterator[Written]:
    while failed:
        yield failed.pop(0)


class _Reading:
    """Reads the images of studies ahead of the model; `failed` gets the studies that cannot be read."""

    def __init__(
        self,
        model: ReportGenerator,
        pool: ThreadPoolExecutor,
        studies: Sequence[StudyImages],
        *,
        gray_bits: int | None,
        context: StudyContext | None,
        failed: list[Written],
    ) -> None:
        self.transform, self.pool, self.studies, self.gray_bits = model.vision.transform, pool, studies, gray_bits
        self.most_views: int | None = getattr(model.vision.join, "max_views", None)
        self.failed, self.context = failed, context

    def batches(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Full batches of the studies that can be read, on the device."""
        examples: list[Example] = []
        for study, future in self._ahead(_READ_AHEAD * size):
            try:
                examples.append(future.result())
            except UserError as error:
                self.failed.append(Written(study.id, "", str(error)))
                continue
            if len(examples) == size:
                yield collate(examples).to(device)
                examples = []
        if examples:
            yield collate(examples).to(device)

    def _ahead(self, number: int) -> Iterator[tuple[StudyImages, Future[Example]]]:
        waiting: deque[tuple[StudyImages, Future[Example]]] = deque()
        for study in self.studies:
            waiting.append((study, self.pool.submit(self._read, study)))
            if len(waiting) > number:
                yield waiting.popleft()
        yield from waiting

    def _read(self, study: StudyImages) -> Example:
        if study.error:
            raise UserError(study.error)
        if not study.images:
            raise UserError("a study needs at least one image")
        context = None
        if self.context is not None:
            facts = study.context or Study(study.id, ("",) * len(study.images), "")
            if study.fills:
                facts = with_tags(facts, study.images)
            self._refuse_later(facts)
            has_prior = bool(self.context.prior_views(facts))
            if has_prior and not study.prior_images:
                raise UserError("an image of its prior study does not exist")
            context = self.context.example(facts, self._images(study.prior_images) if has_prior else None)
        return Example(study.id, self._images(study.images), torch.zeros(0, dtype=torch.long), context)

    def _refuse_later(self, study: Study) -> None:
        """Raise UserError if the prompt has a prior that is the study itself or not earlier, as training does."""
        assert self.context is not None
        prior = study.prior
        reads = not set(OF_PRIOR).isdisjoint(self.context.options.fields)
        if not reads or prior is None:
            return
        is_itself = prior.id == study.id
        if is_itself or (prior.days is not None and prior.days <= 0):
            why = REFUSED["itself" if is_itself else "not_earlier"].format(days=prior.days)
            raise UserError(f"the prior {shown(prior.id)} {why}, or remove the prior")

    def _images(self, images: Sequence[Any]) -> torch.Tensor:
        """[V, H, W] at the encoder's size."""
        if self.most_views is not None and len(images) > self.most_views:
            raise UserError(f"it has {len(images)} images, and this model reads at most {self.most_views}")
        size_px, gray_bits = self.transform.size_px, self.gray_bits
        gray = [gray_image(item, at_least_px=size_px, gray_bits=gray_bits) for item in images]
        return torch.stack([self.transform(image) for image in gray])
