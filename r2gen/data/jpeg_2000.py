"""JPEG 2000 decoded at a half or a quarter of its size, without the finest levels, which take most of the time."""

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Start of a codestream, then the ends and starts of columns and rows, and the precision of a single component.
HEADER = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4})(.{4})(.{4})(?:.{16}\x00\x01(.))?", re.DOTALL)
Values = npt.NDArray[Any]


def halvings(width: int, height: int, *, at_least_px: int) -> int:
    """How often a picture is halved so that both sides stay at least as long as requested.

    Less often where Pillow expects another size than the decoder, which rounds up.
    """
    most = (min(width, height) // at_least_px).bit_length() - 1
    sides = (width, height)
    return next((n for n in range(most, 0, -1) if all((side + 2**n // 2) >> n == -(-side >> n) for side in sides)), 0)


def reduced_values(stream: bytes, *, bits: int, halved: int) -> Values | None:
    """The values of a gray picture of unsigned numbers, halved so often; see `in_place`.

    None if it has other bits or an origin, or if it cannot be decoded in this way.
    """
    header = HEADER.search(stream, 0, 4096)
    if header is None or header[5] is None or header[5][0] + 1 != bits or any(header[3] + header[4]):
        return None
    try:
        picture: Any = Image.open(io.BytesIO(stream), formats=("JPEG2000",))
        picture.reduce = halved  # of this format, the number of levels to leave out
        picture.load()
        shifted = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, TypeError, MemoryError):
        return None  # also if it has fewer levels
    values: Values = shifted >> (8 * shifted.itemsize - bits)  # Pillow shifts them to the highest bits
    return values


def in_place(reduced: Image.Image, *, width: int, height: int, halved: int) -> Image.Image:
    """A reduced picture of mode L where the picture of this size has its parts.

    Of each pair, JPEG 2000 keeps the first sample and not the mean, so that a reduced picture is shifted: by .4 pixels
    after two halvings.
    """
    scale = 2**halved
    shift = (scale - 1) / 2 / scale
    padded = Image.fromarray(np.pad(np.asarray(reduced), ((0, 1), (0, 1)), mode="edge"))
    box = (shift, shift, shift + width / scale, shift + height / scale)
    return padded.resize((round(width / scale), round(height / scale)), Image.Resampling.BICUBIC, box=box)
