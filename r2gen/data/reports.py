"""What a data set gives: studies with their full reference reports, and the images they name. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from r2gen.config.targets import Target

SPLITS = ("train", "val", "test")
ANNOTATED = "r2gen.data.annotation.AnnotatedReports"  # whose check launch.py makes, once for all ranks


@dataclass(frozen=True)
class Study:
    """One examination: the images taken, and the report written about them."""

    id: str
    views: tuple[str, ...]  # names that ReportData.image understands; order is the data set's own
    report: str  # the full cleaned reference; nothing in R2Gen ever cuts it
    context: str | None = None  # indication or prior report, where the data set has one
    findings: frozenset[str] | None = None  # what was drawn ("effusion:left"); None where nobody knows


class ReportData(Protocol):
    """A data set of chest images with reports. `conf/data/*.yaml` names a class that does this."""

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of train, val or test, always in the same order; empty where the split is."""

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        """The image named in Study.views, 8-bit gray (mode L), at its own size in pixels.

        With at_least_px, the side of the square it will be resized to, an image far larger may come out smaller.
        """


def unchecked(data: Target) -> Target:
    """A data set without the check of its images, which the command has made once for all ranks."""
    return data.with_arguments(check="none") if data.name == ANNOTATED else data
