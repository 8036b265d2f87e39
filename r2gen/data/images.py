"""An image from its file: whatever the PNG, JPEG, TIFF or DICOM holds becomes 8-bit gray. Imports no torch."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from r2gen.data.dicom import is_dicom, read_dicom
from r2gen.errors import UserError

# What Pillow may open: the formats images come in. Others (EPS, say) start programs or readers no image needs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
# What Pillow raises on bad bytes.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)
_DRAFT_MARGIN = 2  # a JPEG is decoded at no less than twice the size wanted, so that resizing still smooths it
_TWELVE_BIT_WHITE = 4095


def read_image(path: Path, *, at_least_px: int | None = None, gray_bits: int | None = None) -> Image.Image:
    """The image as a viewer shows it, 8-bit gray (mode L), at its own size in pixels.

    at_least_px: the side of the square it will be resized to. A JPEG far larger is decoded at a half, a quarter or an
    eighth of its size (Pillow's draft mode), never below twice at_least_px. gray_bits: how many bits of a 16-bit file
    are used; null reads what to_gray says. Raises UserError on a missing, broken or too large file.
    """
    with warnings.catch_warnings():  # of metadata, which do the pixels no harm; what does harm is raised
        warnings.simplefilter("ignore")
        return decode_image(path, at_least_px=at_least_px, gray_bits=gray_bits)


def decode_image(path: Path, *, at_least_px: int | None, gray_bits: int | None) -> Image.Image:
    """read_image for threads: warnings are the caller's to silence, since Python does that for a whole process."""
    try:
        if is_dicom(path):
            return read_dicom(path)
        with path.open("rb") as file, open_image(file) as image:
            one_picture(image)
            if at_least_px is not None:
                image.draft("L", (at_least_px * _DRAFT_MARGIN, at_least_px * _DRAFT_MARGIN))
            image.load()
            return to_gray(upright(image), gray_bits=significant_bits(path) or gray_bits)
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist") from error
    except BROKEN as error:
        raise UserError(
            f"image {path} cannot be read ({_said(error)}): it is broken, or no PNG, JPEG, TIFF or DICOM"
        ) from error


def open_image(file: IO[bytes]) -> Image.Image:
    """The image with only its header read. Raises ValueError where it has more pixels than Pillow warns of."""
    image = Image.open(file, formats=FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"it is too large: {image.width} x {image.height} pixels, at most {limit:,} are read")
    return image


def one_picture(image: Image.Image) -> None:
    """Raise ValueError where a file holds several: nobody said which of them is the image."""
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # of a camera's MPO the first is the picture, the others its previews
        raise ValueError(f"it holds {pictures} pictures, an image is one: write each to a file of its own")


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, as every viewer does."""
    return ImageOps.exif_transpose(image)


def to_gray(image: Image.Image, *, gray_bits: int | None = None) -> Image.Image:
    """An image of any mode as read_image gives it. Raises ValueError where its white is unknown.

    The white of 16-bit gray is the largest number of `gray_bits` bits. Without them it is 65535, or 4095 where every
    pixel fits 12 bits (an image that uses a sixteenth of its range would be all but black). It is never the image's own
    brightest pixel. Transparent pixels are black, as an image's border is.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _gray_from_16_bit(image.convert("I"), gray_bits)
    if image.mode == "F":
        raise ValueError("it holds floating-point values, whose white is unknown")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, with_alpha).convert("L")
    return image.convert("L")


def _gray_from_16_bit(image: Image.Image, gray_bits: int | None) -> Image.Image:
    darkest, brightest = image.getextrema()
    if not (isinstance(darkest, int) and isinstance(brightest, int) and darkest >= 0 and brightest <= 65535):
        raise ValueError(f"its values run from {darkest} to {brightest}, more than 16 bits hold")
    if gray_bits is not None:
        white = 2**gray_bits - 1
        if brightest > white:
            raise ValueError(f"its values reach {brightest}, and {gray_bits} bits of gray end at {white}")
    else:
        white = _TWELVE_BIT_WHITE if brightest <= _TWELVE_BIT_WHITE else 65535
    # Image.point on mode I takes a scale and an offset only; .5 rounds to the nearest.
    return image.point(lambda value: value * (255 / white) + 0.5).convert("L")


def significant_bits(path: Path) -> int | None:
    """What a 16-bit gray PNG says of its pixels in the sBIT chunk; None where it says nothing, or is no such PNG."""
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return None
        header = _chunk(file)
        if len(header[1]) < 10 or header[1][8:10] != b"\x10\x00":  # 16 bits, gray
            return None
        while True:
            name, content = _chunk(file)
            if name == b"sBIT" and len(content) == 1 and 1 <= content[0] <= 16:
                return content[0] if content[0] > 8 else None
            if name in (b"IDAT", b"PLTE", b""):  # sBIT stands before them
                return None


def _chunk(file: IO[bytes]) -> tuple[bytes, bytes]:
    """Name and content of the next chunk of a PNG; the content of a long one is skipped."""
    head = file.read(8)
    if len(head) < 8:
        return b"", b""
    length, name = struct.unpack(">I4s", head)
    if length > 64:
        file.seek(length + 4, 1)
        return name, b""
    content = file.read(length)
    file.seek(4, 1)  # its checksum, which Pillow has verified
    return name, content


def _said(error: BaseException) -> str:
    """Pillow's message on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "its beginning is that of no known format"  # Pillow shows a Python object here
    return " ".join(str(error).split()) or type(error).__name__
