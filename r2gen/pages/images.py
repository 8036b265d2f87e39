"""Images embedded in a page: gray JPEGs, scaled down so that a page stays small."""

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image

IMAGE_SIZES_PX = (320, 224, 160, 96)  # the largest with which all images fit into IMAGE_BYTES is used
IMAGE_BYTES = 2_000_000
JPEG_QUALITY = 80


def embedded(images: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[str]]:
    """Data URIs of the images by study, in the largest of IMAGE_SIZES_PX that fits IMAGE_BYTES, else the smallest."""
    uris: dict[str, list[str]] = {}
    for size_px in IMAGE_SIZES_PX:
        uris = {study: [_data_uri(view, size_px=size_px) for view in views] for study, views in images.items()}
        if sum(len(uri) for of_study in uris.values() for uri in of_study) <= IMAGE_BYTES:
            break
    return uris


def _data_uri(image: Image.Image, *, size_px: int) -> str:
    small = image.convert("L")
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
