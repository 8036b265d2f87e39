"""A share of the training studies, to measure what more data would bring."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from r2gen.data.reports import ImageFile, ReportData, Study, image_file_of

if TYPE_CHECKING:
    from PIL import Image


class TrainShare:
    """`data` with a share of its training studies, chosen by their ids: a larger share contains every smaller one.

    val and test are not cut. What is made from training reports (a tokenizer, the baselines) uses the share only.
    """

    def __init__(self, data: ReportData, share: float) -> None:
        self.data, self.share = data, share

    @property
    def section(self) -> str:
        return self.data.section

    @property
    def cleaner(self) -> str:
        return self.data.cleaner

    def studies(self, split: str) -> Sequence[Study]:
        studies = self.data.studies(split)
        if split != "train" or self.share == 1:
            return studies
        ordered = sorted(studies, key=lambda study: hashlib.sha256(study.id.encode()).digest())
        chosen = {study.id for study in ordered[: max(1, round(self.share * len(studies)))]}
        return [study for study in studies if study.id in chosen]

    def image(self, view: str, *, at_least_px: int | None = None) -> "Image.Image":
        return self.data.image(view, at_least_px=at_least_px)

    def image_file(self, view: str) -> ImageFile | None:
        return image_file_of(self.data, view)
