"""Chest phantoms: studies of a frontal and a lateral image drawn at run time, whose findings are known exactly."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from r2gen.data.phantom_images import DRAW
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.data.reports import SPLITS, Study
from r2gen.errors import UserError

VERSION = 1  # raise when an image or a report of the same seed changes; conf/data/phantom.yaml names it too
PREVALENCE = 0.18  # of each finding on each side, drawn independently; a report naming all of them scores F1 .31

MOST_STUDIES, LARGEST_PX = 1_000_000, 4096
_FINDINGS, _REPORT, _IMAGES = range(3)  # independent random streams of one study


class Phantom:
    """Studies that depend on (seed, split, number) only: more studies leave the earlier ones as they were.

    Each image is drawn anew at every call (about a millisecond), size_px pixels square.
    """

    def __init__(
        self, *, seed: int = 0, train_studies: int, val_studies: int, test_studies: int, size_px: int, version: int
    ) -> None:
        if version != VERSION:
            raise UserError(f"data.version={version}: this code draws version {VERSION}; set data.version={VERSION}")
        if size_px > LARGEST_PX:
            raise UserError(f"data.size_px={size_px}: a phantom image has at most {LARGEST_PX:,} pixels")
        if size_px < 32:
            raise UserError(f"data.size_px={size_px}: a phantom image needs at least 32 pixels")
        if train_studies == 0:
            raise UserError("data.train_studies=0: there is nothing to learn from; give at least 1")
        for name, number in (
            ("seed", seed),
            ("train_studies", train_studies),
            ("val_studies", val_studies),
            ("test_studies", test_studies),
        ):
            if number < 0:
                raise UserError(f"data.{name}={number} must not be negative")
            if number > MOST_STUDIES and name != "seed":
                raise UserError(f"data.{name}={number}: give at most {MOST_STUDIES:,}")
        self.seed = seed
        self.size_px = size_px
        self._counts = dict(zip(SPLITS, (train_studies, val_studies, test_studies), strict=True))

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of one split, numbered from 0, with ids like "train-00017"."""
        return [self._study(split, number) for number in range(self._counts[split])]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        """The image of a view name like "train-00017-frontal", whatever size is wanted."""
        split, number, kind = view.split("-")
        findings = self._findings(split, int(number))
        pixels = DRAW[kind](findings, self._random(split, int(number), _IMAGES), self.size_px)
        return Image.fromarray(pixels)

    def _study(self, split: str, number: int) -> Study:
        findings = self._findings(split, number)
        name = f"{split}-{number:05d}"
        return Study(
            id=name,
            views=tuple(f"{name}-{kind}" for kind in DRAW),
            report=write_report(findings, self._random(split, number, _REPORT)),
            findings=findings,
        )

    def _findings(self, split: str, number: int) -> frozenset[str]:
        present = self._random(split, number, _FINDINGS).random(len(FINDINGS)) < PREVALENCE
        return frozenset(finding for finding, there in zip(FINDINGS, present, strict=True) if there)

    def _random(self, split: str, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(split), number, stream])
