"""The training report whose images are most similar to uploaded ones: a baseline that a reader can look at."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2gen.build import build_data
from r2gen.config.schema import Config
from r2gen.data.reports import ReportData, Study
from r2gen.errors import UserError
from r2gen.evaluate.nearest import nearest_studies, small_image, small_pixels, spread

MOST_STUDIES = 5000  # of training; reading more takes minutes
UPLOADED = "uploaded"


class TrainingReports:
    """The training studies of a run, read in a thread while the demo already writes reports."""

    def __init__(self, config: Config) -> None:
        self.note = "the training images are being read"  # why there is no nearest report; empty if there is one
        self._pixels: dict[str, NDArray[np.float32]] = {}
        self._studies: list[Study] = []
        threading.Thread(target=self._read, args=(config,), daemon=True).start()

    def _read(self, config: Config) -> None:
        most = min(config.evaluate.nearest_studies, MOST_STUDIES)
        if not most:
            self.note = "evaluate.nearest_studies=0"
            return
        try:
            data: ReportData = build_data(config)
            studies = spread(data.studies("train"), most)
            for number, study in enumerate(studies):
                self._pixels |= {view: small_image(data, view) for view in study.views if view not in self._pixels}
                self.note = f"{number + 1:,} of {len(studies):,} training studies are read"
            self._studies = studies
            self.note = "" if studies else "the run has no training study"
        except UserError as error:
            self.note = f"the training data cannot be read: {error}"

    def nearest(self, images: Sequence[Image.Image]) -> Study | None:
        """The training study with the most similar images; None while there is a note."""
        if self.note or not images:
            return None
        views = tuple(f"{UPLOADED} {number}" for number in range(len(images)))
        pixels = self._pixels | {view: small_pixels(image) for view, image in zip(views, images, strict=True)}
        query = Study(id=UPLOADED, views=views, report="")
        match = nearest_studies(pixels.__getitem__, self._studies, [query])[UPLOADED]
        return next(study for study in self._studies if study.id == match)
