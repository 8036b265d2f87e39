"""The studies of the phantom: findings, report and images drawn from (seed, split, number)."""

import numpy as np
from PIL import Image

from r2gen.data.phantom_images import DRAW
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.data.reports import SPLITS, Study

PREVALENCE = 0.18  # of each finding on each side, drawn independently; a report naming all of them scores F1 .31
_FINDINGS, _REPORT, _IMAGES = range(3)  # independent random streams of one study


def draw_study(seed: int, split: str, number: int) -> Study:
    """The study with the id "<split>-<number>", one view for each kind of image."""
    findings = _draw_findings(seed, split, number)
    name = f"{split}-{number:05d}"
    return Study(
        id=name,
        views=tuple(f"{name}-{kind}" for kind in DRAW),
        report=write_report(findings, stream_of(seed, split, number, _REPORT)),
        findings=findings,
    )


def draw_image(seed: int, view: str, size_px: int) -> Image.Image:
    """The image of a view name like "train-00017-frontal", size_px pixels square."""
    split, number, kind = view.split("-")
    findings = _draw_findings(seed, split, int(number))
    return Image.fromarray(DRAW[kind](findings, stream_of(seed, split, int(number), _IMAGES), size_px))


def _draw_findings(seed: int, split: str, number: int) -> frozenset[str]:
    present = stream_of(seed, split, number, _FINDINGS).random(len(FINDINGS)) < PREVALENCE
    return frozenset(finding for finding, there in zip(FINDINGS, present, strict=True) if there)


def stream_of(seed: int, split: str, number: int, stream: int) -> np.random.Generator:
    """The random numbers of one stream of a study, which no other stream or study has."""
    return np.random.default_rng([seed, SPLITS.index(split), number, stream])
