"""Images embedded in a page: gray JPEGs, scaled down so that a page stays small."""

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image

IMAGE_SIZES_PX = (1024, 768, 512, 320, 224, 160, 96)  # the largest with which all images fit into IMAGE_BYTES is used
IMAGE_BYTES = 5_000_000
JPEG_QUALITY = 80


def embedded(images: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[str]]:
    """Data URIs of the images by study, in the largest of IMAGE_SIZES_PX that fits IMAGE_BYTES, else the smallest."""
    for size_px in IMAGE_SIZES_PX[:-1]:
        if (uris := _fitting(images, size_px=size_px)) is not None:
            return uris
    return {study: [_data_uri(view, size_px=IMAGE_SIZES_PX[-1]) for view in views] for study, views in images.items()}


def _fitting(images: Mapping[str, Sequence[Image.Image]], *, size_px: int) -> dict[str, list[str]] | None:
    """The data URIs in this size; None if they do not fit into IMAGE_BYTES."""
    used, uris = 0, dict[str, list[str]]()
    for number, (study, views) in enumerate(images.items(), start=1):
        uris[study] = [_data_uri(view, size_px=size_px) for view in views]
        used += sum(map(len, uris[study]))
        # The first studies tell whether the others can fit: encoding all of them in vain takes seconds.
        if used > IMAGE_BYTES * min(1.0, 0.1 + 1.5 * number / len(images)):
            return None
    return uris


def _data_uri(image: Image.Image, *, size_px: int) -> str:
    small = image.convert("L")
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS, reducing_gap=1.0)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
