"""A part of the training studies, for the question what more data would bring. Imports no torch."""

import hashlib
from collections.abc import Sequence

from PIL import Image

from r2gen.data.reports import ReportData, Study


class TrainShare:
    """`data` with a share of its training studies, chosen by their ids: a larger share holds all of a smaller one.

    val and test stay whole. What is made from training reports (a tokenizer, the null rows) sees the share only.
    """

    def __init__(self, data: ReportData, share: float) -> None:
        self.data, self.share = data, share

    def studies(self, split: str) -> Sequence[Study]:
        studies = self.data.studies(split)
        if split != "train" or self.share == 1:
            return studies
        drawn = sorted(studies, key=lambda study: hashlib.sha256(study.id.encode()).digest())
        kept = {study.id for study in drawn[: max(1, round(self.share * len(studies)))]}
        return [study for study in studies if study.id in kept]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        return self.data.image(view, at_least_px=at_least_px)
