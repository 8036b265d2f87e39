"""The nearest-image baseline: for each study, the training study with the most similar pixels. No model is involved."""

import json
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r2gen.data.reports import ReportData, Study
from r2gen.ranks.forked import Fork
from r2gen.runs.files import write_whole
from r2gen.runs.untrusted import misfits, read_json

FORMAT = 1
SIDE_PX = 32
_BLOCK = 256  # training studies in memory at once
_QUERIES = 1024  # studies that they are compared with at once
_DECIMALS = 5  # of a similarity, so that rounding, which differs between blocks, does not decide

Pixels = Callable[[str], NDArray[np.float32]]  # view -> its small image, [P]

# Q queried studies, T training studies, F images, P pixels


class SmallImages:
    """The small images of some views, read by several processes into memory that they share with this one."""

    def __init__(self, data: ReportData, views: Sequence[str], *, processes: int, fork: Fork) -> None:
        self._data, self._views = data, list(dict.fromkeys(views))
        self._index = {view: index for index, view in enumerate(self._views)}
        shared = mmap.mmap(-1, max(1, len(self._views)) * SIDE_PX**2 * 4)
        self._pixels_FP = np.frombuffer(shared, np.float32).reshape(-1, SIDE_PX**2)
        self.readers = [fork(partial(self._read, first, processes)) for first in range(processes)]

    def __call__(self, view: str) -> NDArray[np.float32]:
        """The small image of a view, once all readers are done."""
        image: NDArray[np.float32] = self._pixels_FP[self._index[view]]
        return image

    def _read(self, first: int, step: int) -> None:
        for index in range(first, len(self._views), step):
            self._pixels_FP[index] = small_image(self._data, self._views[index])


def nearest_studies(pixels: Pixels, train: Sequence[Study], studies: Sequence[Study]) -> dict[str, str]:
    """The id of the most similar training study for each of `studies`.

    The similarity of two studies is the mean over the queried study's images of their highest correlation with an image
    of the training study, so the order and the number of views do not count. Among equal studies the first one wins; a
    study is never its own match.
    """
    best: dict[str, tuple[float, str]] = {study.id: (-np.inf, "") for study in studies}
    chunks = [(chunk, *_stacked(pixels, chunk)) for chunk in _blocks(studies, _QUERIES)]
    for block in _blocks(train, _BLOCK):
        own_FP, own_starts = _stacked(pixels, block)
        row_of = {study.id: row for row, study in enumerate(block)}
        for chunk, queried_FP, starts in chunks:
            correlation_TF = np.maximum.reduceat(own_FP @ queried_FP.T, own_starts, axis=0)
            views = np.diff([*starts, len(queried_FP)])
            similarity_TQ = np.round(np.add.reduceat(correlation_TF, starts, axis=1) / views, _DECIMALS)
            for column, study in enumerate(chunk):
                if study.id in row_of:
                    similarity_TQ[row_of[study.id], column] = -np.inf
            for column, row in enumerate(similarity_TQ.argmax(axis=0)):
                if not best[chunk[column].id][1] or similarity_TQ[row, column] > best[chunk[column].id][0]:
                    best[chunk[column].id] = (float(similarity_TQ[row, column]), block[row].id)
    return {id: nearest for id, (_, nearest) in best.items()}


def spread(train: Sequence[Study], most: int) -> list[Study]:
    """At most `most` training studies, evenly spaced."""
    count = min(most, len(train))
    return [train[number * len(train) // count] for number in range(count)]


def _blocks(studies: Sequence[Study], size: int) -> Iterator[Sequence[Study]]:
    for start in range(0, len(studies), size):
        yield studies[start : start + size]


def _stacked(pixels: Pixels, studies: Sequence[Study]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images of all studies, [F, P], and the index of each study's first image."""
    views = [len(study.views) for study in studies]
    pixels_FP = np.stack([pixels(view) for study in studies for view in study.views])
    return pixels_FP, np.cumsum([0, *views[:-1]])


def small_image(data: ReportData, view: str) -> NDArray[np.float32]:
    """An image as 32 x 32 gray pixels minus their mean, scaled to length 1: brightness and contrast do not count.

    Raises UserError if it cannot be read.
    """
    return small_pixels(data.image(view, at_least_px=SIDE_PX))


def small_pixels(image: Image.Image) -> NDArray[np.float32]:
    """The same of an image."""
    # reducing_gap=2 first shrinks a large image by whole pixels: several times faster, with almost the same result.
    small = image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels_P: NDArray[np.float32] = np.asarray(small, dtype=np.float32).ravel()
    pixels_P = pixels_P - pixels_P.mean()
    length = float(np.linalg.norm(pixels_P))
    return np.divide(pixels_P, length, dtype=np.float32) if length else pixels_P


def read_nearest(file: Path, *, data_hash: str, compared: int) -> dict[str, str]:
    """Study id to training study id from an earlier search; empty if its data or number of studies was different."""
    try:
        content = read_json(file)
        nearest: dict[str, str] = content.pop("nearest")
        if next(misfits(nearest, dict[str, str]), None) is not None:
            return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return nearest if content == _made_by(data_hash, compared) else {}


def write_nearest(file: Path, nearest: Mapping[str, str], *, data_hash: str, compared: int) -> None:
    write_whole(file, json.dumps(_made_by(data_hash, compared) | {"nearest": dict(nearest)}, indent=1) + "\n")


def _made_by(data_hash: str, compared: int) -> dict[str, object]:
    return {"format": FORMAT, "data_hash": data_hash, "compared": compared}
