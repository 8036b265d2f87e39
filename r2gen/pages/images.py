"""Images inside a page: small gray JPEGs, as large as a page's budget allows."""

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image

IMAGE_SIZES_PX = (320, 224, 160, 96)  # the first with which all images together fit
IMAGE_BYTES = 2_000_000
JPEG_QUALITY = 80


def embedded(images: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[str]]:
    """Images by study as data URIs, of the largest size in IMAGE_SIZES_PX with which they stay under IMAGE_BYTES."""
    found: dict[str, list[str]] = {}
    for size_px in IMAGE_SIZES_PX:
        found = {study: [_data_uri(view, size_px=size_px) for view in views] for study, views in images.items()}
        if sum(len(uri) for uris in found.values() for uri in uris) <= IMAGE_BYTES:
            break
    return found


def _data_uri(image: Image.Image, *, size_px: int) -> str:
    small = image.convert("L")
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
