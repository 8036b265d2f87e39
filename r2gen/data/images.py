"""Images from PNG, JPEG, TIFF, DICOM and other files, converted to 8-bit gray."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from r2gen.data.dicom import UnusableImage, is_dicom, read_dicom
from r2gen.errors import UserError
from r2gen.runs.placeholders import placeholder

# The formats that Pillow may open. Others, such as EPS, start external programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
# The exceptions that Pillow raises on damaged files.
READ_ERRORS = (
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
_MARGIN = 2  # a JPEG is decoded at twice the requested size or more, so that resizing still smooths it
_TWELVE_BIT_WHITE = 4095


def read_image(path: Path, *, at_least_px: int | None = None, gray_bits: int | None = None) -> Image.Image:
    """The image as a viewer shows it, 8-bit gray (mode L), at its own size in pixels.

    at_least_px is the side of the square that it will be resized to: a much larger JPEG is decoded at a half, a quarter
    or an eighth of its size (Pillow's draft mode), and JPEG 2000 in DICOM likewise, never below twice at_least_px.
    gray_bits is the number of bits that a 16-bit file uses; None: see to_gray. Raises UserError if the file is missing,
    damaged or too large.
    """
    with warnings.catch_warnings():  # Pillow warns of harmless metadata; faults of the pixels raise an exception
        warnings.simplefilter("ignore")
        return decode_image(path, at_least_px=at_least_px, gray_bits=gray_bits)


def decode_image(path: Path, *, at_least_px: int | None, gray_bits: int | None) -> Image.Image:
    """read_image for threads. The caller silences warnings, since Python does that for the whole process."""
    side = None if at_least_px is None else at_least_px * _MARGIN
    try:
        if is_dicom(path):
            return read_dicom(path, at_least_px=side)
        with path.open("rb") as file, open_image(file) as image:
            refuse_several_pictures(image)
            if side is not None:
                image.draft("L", (side, side))
            image.load()
            return to_gray(upright(image), gray_bits=significant_bits(path) or gray_bits)
    except FileNotFoundError as error:
        raise UserError(f"image {path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"image {path} is a folder: give a file") from error
    except UnusableImage as error:
        raise UserError(f"image {path} cannot be read: {error}") from error
    except READ_ERRORS as error:
        if instead := placeholder(path):
            raise UserError(f"image {instead}") from error
        raise UserError(
            f"image {path} cannot be read ({_reason(error)}): it is damaged, or not a PNG, JPEG, TIFF or DICOM file"
        ) from error


def open_image(file: IO[bytes]) -> Image.Image:
    """The image with only its header read. Raises UnusableImage if it has more pixels than Pillow's warning limit."""
    image = Image.open(file, formats=FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnusableImage(f"it is too large: {image.width} x {image.height} pixels; the limit is {limit:,}")
    return image


def refuse_several_pictures(image: Image.Image) -> None:
    """Raise UnusableImage if a file contains several pictures, since any of them could be the image."""
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # the first picture of a camera's MPO is the image, the others previews
        raise UnusableImage(f"it contains {pictures} pictures instead of one: write each to a file of its own")


def upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation, as viewers do."""
    return ImageOps.exif_transpose(image)


def to_gray(image: Image.Image, *, gray_bits: int | None = None) -> Image.Image:
    """8-bit gray (mode L) from an image of any mode. Raises UnusableImage if its white level is unknown.

    The white level of 16-bit gray is the largest number of `gray_bits` bits. Without gray_bits it is 65535, or 4095 if
    every pixel fits into 12 bits: such an image would be almost black otherwise. It is never the brightest pixel of the
    image itself. Transparent pixels become black, like the border of an image.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _gray_from_16_bit(image.convert("I"), gray_bits)
    if image.mode == "F":
        raise UnusableImage("it contains floating-point values, whose white level is unknown")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, with_alpha).convert("L")
    return image.convert("L")


def _gray_from_16_bit(image: Image.Image, gray_bits: int | None) -> Image.Image:
    darkest, brightest = image.getextrema()
    if not (isinstance(darkest, int) and isinstance(brightest, int) and darkest >= 0 and brightest <= 65535):
        raise UnusableImage(f"its values range from {darkest} to {brightest}, which does not fit into 16 bits")
    if gray_bits is not None:
        white = 2**gray_bits - 1
        if brightest > white:
            raise UnusableImage(f"its values reach {brightest}, but {gray_bits} bits of gray end at {white}")
    else:
        white = _TWELVE_BIT_WHITE if brightest <= _TWELVE_BIT_WHITE else 65535
    # Image.point on mode I accepts only a scale and an offset; 0.5 rounds to the nearest.
    return image.point(lambda value: value * (255 / white) + 0.5).convert("L")


def significant_bits(path: Path) -> int | None:
    """The bits per pixel in the sBIT chunk of a 16-bit gray PNG; None if it has none, or is another kind of file."""
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
            if name in (b"IDAT", b"PLTE", b""):  # sBIT precedes these chunks
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
    file.seek(4, 1)  # the checksum, which Pillow has verified
    return name, content


def _reason(error: BaseException) -> str:
    """Pillow's message on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it does not begin like any known format"  # Pillow's message shows a Python object
    return " ".join(str(error).split()) or type(error).__name__
