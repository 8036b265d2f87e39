"""The nearest image: for each study the training study whose images look most alike, pixel by pixel, without any model.

Imports no torch.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2gen.data.reports import ReportData, Study
from r2gen.runs.files import write_whole

FORMAT = 1
SIDE_PX = 32
_BLOCK = 256  # training studies compared at once
_QUERIES = 1024  # studies they are compared with at once
_DECIMALS = 5  # of a likeness: what a product rounds to differently in another block is no difference

Item = TypeVar("Item")

# Q studies asked for, T training studies, F images, P pixels


@dataclass(frozen=True)
class Match:
    likeness: float
    place: int  # of the training study in its row
    id: str


def nearest_studies(
    data: ReportData,
    train: Iterable[tuple[int, Study]],
    studies: Sequence[Study],
    each: Callable[[], None] = lambda: None,
) -> dict[str, Match]:
    """The most alike of `train` (numbered, so that parts of the row can be joined) for each of `studies`.

    An image is 32 x 32 gray pixels less their mean, of length 1, so that neither brightness nor contrast counts. The
    likeness of two studies: each image asked for takes the most alike of the other study's images (their product is the
    correlation), and the images' values are averaged; so the order and the number of views do not matter. Of equal ones
    the first counts. A study is never its own match. `train` is read once, in blocks: 256 studies are in memory.
    `each` is called after every block. Raises UserError where an image cannot be read.
    """
    found: dict[str, Match] = {}
    chunks = [(chunk, *_pixels(data, chunk)) for chunk in _blocks(studies, _QUERIES)]
    for block in _blocks(train, _BLOCK):
        own_FP, own_starts = _pixels(data, [study for _, study in block])
        place_of = {study.id: index for index, (_, study) in enumerate(block)}
        for chunk, asked_FP, starts in chunks:
            images = np.maximum.reduceat(own_FP @ asked_FP.T, own_starts, axis=0)  # T, images asked for
            views = np.diff([*starts, len(asked_FP)])
            likeness_TQ = np.round(np.add.reduceat(images, starts, axis=1) / views, _DECIMALS)
            for column, study in enumerate(chunk):
                if study.id in place_of:
                    likeness_TQ[place_of[study.id], column] = -np.inf
            for column, row in enumerate(likeness_TQ.argmax(axis=0)):
                match = Match(float(likeness_TQ[row, column]), block[row][0], block[row][1].id)
                before = found.get(chunk[column].id)
                found[chunk[column].id] = match if before is None else closer(before, match)
        each()
    return found


def closer(one: Match, other: Match) -> Match:
    """The more alike of two; of equal ones the one that stands first in training."""
    return min(one, other, key=lambda match: (-match.likeness, match.place))


def spread(train: Sequence[Study], most: int) -> list[tuple[int, Study]]:
    """At most so many training studies, evenly spread over their row, with their places in it."""
    count = min(most, len(train))
    return [(place, train[place]) for place in (index * len(train) // count for index in range(count))]


def _blocks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    block: list[Item] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _pixels(data: ReportData, studies: Sequence[Study]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All images of the studies one after the other, [F, P], and the place of each study's first."""
    views = [len(study.views) for study in studies]
    pixels_FP = np.stack([_image(data, view) for study in studies for view in study.views])
    return pixels_FP, np.cumsum([0, *views[:-1]])


def _image(data: ReportData, view: str) -> NDArray[np.float32]:
    image = data.image(view, at_least_px=SIDE_PX).convert("L")
    # reducing_gap: a large image is first made smaller by whole pixels, several times faster and all but the same.
    small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels_P: NDArray[np.float32] = np.asarray(small, dtype=np.float32).ravel()
    pixels_P = pixels_P - pixels_P.mean()
    length = float(np.linalg.norm(pixels_P))
    return np.divide(pixels_P, length, dtype=np.float32) if length else pixels_P


def joined(parts: Iterable[Mapping[str, Match]]) -> dict[str, str]:
    """Study id to training study id, from what was found in parts of the training studies."""
    best: dict[str, Match] = {}
    for part in parts:
        for id, match in part.items():
            best[id] = closer(best.get(id, match), match)
    return {id: match.id for id, match in best.items()}


def read_nearest(file: Path, *, data_hash: str, compared: int) -> dict[str, str]:
    """Study id to training study id as found before; empty for other data, or so many training studies."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        nearest: dict[str, str] = kept.pop("nearest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return nearest if kept == _made_by(data_hash, compared) else {}


def write_nearest(file: Path, nearest: Mapping[str, str], *, data_hash: str, compared: int) -> None:
    write_whole(file, json.dumps(_made_by(data_hash, compared) | {"nearest": dict(nearest)}, indent=1) + "\n")


def _made_by(data_hash: str, compared: int) -> dict[str, object]:
    return {"format": FORMAT, "data_hash": data_hash, "compared": compared}
