"""Films inside a page: small gray JPEGs, as large as a page's budget allows."""

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image

FILM_SIZES_PX = (320, 224, 160, 96)  # the first with which all films together fit
FILM_BYTES = 2_000_000
JPEG_QUALITY = 80


def embedded(films: Mapping[str, Sequence[Image.Image]]) -> dict[str, list[str]]:
    """Films by study as data URIs, of the largest size in FILM_SIZES_PX with which they stay under FILM_BYTES."""
    found: dict[str, list[str]] = {}
    for size_px in FILM_SIZES_PX:
        found = {study: [_data_uri(view, size_px=size_px) for view in views] for study, views in films.items()}
        if sum(len(uri) for uris in found.values() for uri in uris) <= FILM_BYTES:
            break
    return found


def _data_uri(film: Image.Image, *, size_px: int) -> str:
    small = film.convert("L")
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
