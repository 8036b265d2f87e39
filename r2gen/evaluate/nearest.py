"""The nearest-image baseline: for each study, the training study with the most similar pixels. No model is involved."""

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
from r2gen.runs.untrusted import misfits, read_json

FORMAT = 1
SIDE_PX = 32
_BLOCK = 256  # training studies in memory at once
_QUERIES = 1024  # studies that they are compared with at once
_DECIMALS = 5  # of a similarity, so that rounding, which differs between blocks, does not decide

Item = TypeVar("Item")

# Q queried studies, T training studies, F images, P pixels


@dataclass(frozen=True)
class Match:
    similarity: float
    index: int  # of the training study
    id: str


def nearest_studies(
    data: ReportData,
    train: Iterable[tuple[int, Study]],
    studies: Sequence[Study],
    each: Callable[[], None] = lambda: None,
) -> dict[str, Match]:
    """The most similar training study for each of `studies`. `train` has indices, so that ranks can split it.

    An image is reduced to 32 x 32 gray pixels minus their mean, scaled to length 1, so that brightness and contrast do
    not count. The similarity of two studies is the mean over the queried study's images of their highest correlation
    with an image of the training study, so the order and the number of views do not count. Among equal studies the
    first one wins; a study is never its own match. `train` is read once, in blocks of 256 studies. `each` is called
    after every block. Raises UserError if an image cannot be read.
    """
    matches: dict[str, Match] = {}
    chunks = [(chunk, *_pixels(data, chunk)) for chunk in _blocks(studies, _QUERIES)]
    for block in _blocks(train, _BLOCK):
        own_FP, own_starts = _pixels(data, [study for _, study in block])
        row_of = {study.id: row for row, (_, study) in enumerate(block)}
        for chunk, queried_FP, starts in chunks:
            correlation_TF = np.maximum.reduceat(own_FP @ queried_FP.T, own_starts, axis=0)
            views = np.diff([*starts, len(queried_FP)])
            similarity_TQ = np.round(np.add.reduceat(correlation_TF, starts, axis=1) / views, _DECIMALS)
            for column, study in enumerate(chunk):
                if study.id in row_of:
                    similarity_TQ[row_of[study.id], column] = -np.inf
            for column, row in enumerate(similarity_TQ.argmax(axis=0)):
                match = Match(float(similarity_TQ[row, column]), block[row][0], block[row][1].id)
                before = matches.get(chunk[column].id)
                matches[chunk[column].id] = match if before is None else closer(before, match)
        each()
    return matches


def closer(first: Match, second: Match) -> Match:
    """The more similar match; among equal ones the one with the lower index."""
    return min(first, second, key=lambda match: (-match.similarity, match.index))


def spread(train: Sequence[Study], most: int) -> list[tuple[int, Study]]:
    """At most `most` training studies, evenly spaced, with their indices."""
    count = min(most, len(train))
    return [(index, train[index]) for index in (number * len(train) // count for number in range(count))]


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
    """The images of all studies, [F, P], and the index of each study's first image."""
    views = [len(study.views) for study in studies]
    pixels_FP = np.stack([_image(data, view) for study in studies for view in study.views])
    return pixels_FP, np.cumsum([0, *views[:-1]])


def _image(data: ReportData, view: str) -> NDArray[np.float32]:
    image = data.image(view, at_least_px=SIDE_PX).convert("L")
    # reducing_gap=2 first shrinks a large image by whole pixels: several times faster, with almost the same result.
    small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels_P: NDArray[np.float32] = np.asarray(small, dtype=np.float32).ravel()
    pixels_P = pixels_P - pixels_P.mean()
    length = float(np.linalg.norm(pixels_P))
    return np.divide(pixels_P, length, dtype=np.float32) if length else pixels_P


def joined(parts: Iterable[Mapping[str, Match]]) -> dict[str, str]:
    """Study id to training study id, from the matches in parts of the training studies."""
    best: dict[str, Match] = {}
    for part in parts:
        for id, match in part.items():
            best[id] = closer(best.get(id, match), match)
    return {id: match.id for id, match in best.items()}


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
