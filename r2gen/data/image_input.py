"""8-bit gray from images as Python programs hold them: files, PIL images, numpy arrays and pydicom datasets."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gen.data.dicom import UnusableImage, gray_of
from r2gen.data.images import decode_image, to_gray, upright
from r2gen.errors import UserError

ARRAYS = "uint8, uint16, bool, or floats from 0 to 1"


def gray_image(item: Any, *, at_least_px: int | None = None, gray_bits: int | None = None) -> Image.Image:
    """8-bit gray (mode L) from a path, a PIL image, an array [H, W] or [H, W, 3 or 4], or a pydicom dataset.

    A uint8 array is shown as it is. White is 65535 in uint16, or 4095 if no pixel is larger (`gray_bits` sets the
    number of bits), 1.0 in floats, and True in bool. Raises UserError with the reason.
    """
    if isinstance(item, str | os.PathLike):
        return decode_image(Path(item), at_least_px=at_least_px, gray_bits=gray_bits)
    try:
        if isinstance(item, Image.Image):
            return to_gray(upright(item), gray_bits=gray_bits)
        if isinstance(item, np.ndarray):
            return _of_array(item, gray_bits)
        if is_dataset(item):
            return gray_of(item)
    except (OSError, ValueError) as error:
        what = (
            "a PIL image"
            if isinstance(item, Image.Image)
            else "an array"
            if isinstance(item, np.ndarray)
            else "a dataset"
        )
        raise UserError(f"{what} cannot be used: {error}") from error
    raise UserError(
        f"a {type(item).__name__} is not an image. Pass a path, a PIL image, a numpy array or a pydicom dataset."
    )


def read_gray(item: Any, *, at_least_px: int | None = None, gray_bits: int | None = None) -> Image.Image:
    """gray_image outside threads: it silences Pillow's warnings of harmless metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gray_image(item, at_least_px=at_least_px, gray_bits=gray_bits)


def is_dataset(item: object) -> bool:
    """Whether it is a pydicom dataset, without importing pydicom."""
    return any(kind.__module__.startswith("pydicom") and kind.__name__ == "Dataset" for kind in type(item).__mro__)


def _of_array(pixels: "np.ndarray[Any, Any]", gray_bits: int | None) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if pixels.size == 0 or not (pixels.ndim == 2 or colour):
        hint = ": transpose it to [H, W, 3]" if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) else ""
        raise UnusableImage(f"its shape is {list(pixels.shape)}, not [H, W], [H, W, 3] or [H, W, 4]{hint}")
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(pixels.dtype, np.floating):
        pixels = _of_floats(pixels)
    if pixels.dtype == np.uint8:
        return to_gray(Image.fromarray(np.ascontiguousarray(pixels)))
    if pixels.dtype == np.uint16 and not colour:
        return to_gray(Image.fromarray(np.ascontiguousarray(pixels)), gray_bits=gray_bits)
    raise UnusableImage(f"its values are {pixels.dtype}{' in colour' * colour}: convert them to {ARRAYS}")


def _of_floats(pixels: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= 1:  # also false for NaN
        raise UnusableImage(f"its floats range from {low:g} to {high:g}: scale them to 0 (black) to 1 (white)")
    scaled: np.ndarray[Any, Any] = np.floor(pixels.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    return scaled
