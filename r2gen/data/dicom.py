"""Images from DICOM files as viewers show them: rescaled, windowed, MONOCHROME1 inverted. Needs `[dicom]`."""

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from r2gen.data.jpeg_2000 import HEADER, halvings, in_place, reduced_values
from r2gen.errors import Code, UserError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".dic")
PREFIX = b"DICM"  # after a preamble of 128 bytes
INSTALL = "pip install -e '.[dicom]'"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_TWELVE_BIT_WHITE = 4095
# Tags without which the pixels have no meaning.
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_DEFLATED = "1.2.840.10008.1.2.1.99"  # pydicom inflates such a file completely before any tag can be read
Floats = npt.NDArray[np.float64]


class UnusableImage(ValueError):
    """The reason why a file that can be read contains no image that can be used."""


def is_dicom(path: Path) -> bool:
    """Whether the file has a DICOM suffix or the DICOM prefix. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        head = file.read(132)
    return head[128:] == PREFIX or path.suffix.lower() in SUFFIXES


def read_dicom(path: Path, *, at_least_px: int | None = None) -> Image.Image:
    """The image, 8-bit gray, at its own size. Raises UserError if it is not a single image or cannot be decoded.

    A much larger JPEG 2000 is decoded at a fraction of its size, with no side below at_least_px.

    Applies the modality LUT or rescale, then the first VOI LUT or else the first window, then the polarity of
    MONOCHROME1 (PS3.3 C.7.6.3, C.11.1, C.11.2). Without LUT and window it shows the whole range of the stored bits.
    """
    require_pydicom(path)
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
            raise UnusableImage("it is deflated as a whole, and its inflated size is unknown: convert it (dcmconv +te)")
        return _image(pydicom.dcmread(path), at_least_px)
    except InvalidDicomError as error:
        raise UserError(f"image {path} is not a DICOM file: the prefix DICM is missing at byte 128") from error
    except UnusableImage as error:
        raise UserError(f"image {path}: {error}") from error
    except FileNotFoundError:
        raise
    except Exception as error:  # pydicom and its decoders raise many types on damaged files
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"image {path} cannot be decoded ({type(error).__name__}: {reason}): it is damaged, or its tags are wrong"
        ) from error


def gray_of(dataset: "Dataset") -> Image.Image:
    """The image of a dataset in memory, as `read_dicom` returns it. Raises UnusableImage with the reason."""
    try:
        return _image(dataset)
    except UnusableImage:
        raise
    except Exception as error:  # pydicom and its decoders raise many types
        reason = " ".join(str(error).split())[:300]
        raise UnusableImage(f"it cannot be decoded ({type(error).__name__}: {reason})") from error


def require_pydicom(path: Path) -> None:
    """Raise UserError if the extra `dicom` is not installed, with an image that needs it."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UserError(f"image {path} is DICOM, which needs pydicom: {INSTALL}", code=Code.PACKAGE_MISSING) from error


def _image(dataset: "Dataset", at_least_px: int | None = None) -> Image.Image:
    _refuse_other_than_one_image(dataset)
    _refuse_another_size(dataset)
    width, height = int(dataset.Columns), int(dataset.Rows)
    halved = halvings(width, height, at_least_px=at_least_px) if at_least_px and _is_reducible(dataset) else 0
    if halved:
        from pydicom.encaps import get_frame

        stream = get_frame(dataset.PixelData, 0, number_of_frames=1)
        values = reduced_values(stream, bits=int(dataset.BitsStored), halved=halved)
        if values is not None and values.shape == (-(-height >> halved), -(-width >> halved)):
            return in_place(_image_of(values, dataset), width=width, height=height, halved=halved)
    pixels = _pixels(dataset)
    if pixels.shape[:2] != (height, width):  # pydicom reads excess pixels as more frames
        raise UnusableImage("it contains more pixels than Rows and Columns allow: correct the tags")
    return _image_of(pixels, dataset)


def _is_reducible(dataset: "Dataset") -> bool:
    """Whether a reduced picture has the same gray levels.

    Not if its largest value may decide what is white, and not in 8 bits, in which the rounding of each level shows.
    """
    from pydicom.uid import JPEG2000TransferSyntaxes

    bits = int(dataset.BitsStored)
    is_gray = str(dataset.PhotometricInterpretation) not in _COLOURS and int(dataset.PixelRepresentation) == 0
    has_white = 2**bits - 1 <= _TWELVE_BIT_WHITE or dataset.get("WindowWidth") or dataset.get("VOILUTSequence")
    is_jpeg_2000 = dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes
    return is_jpeg_2000 and is_gray and bits > 8 and bool(has_white)


def _image_of(pixels: npt.NDArray[Any], dataset: "Dataset") -> Image.Image:
    """The image of stored values."""
    kind = str(dataset.PhotometricInterpretation)
    if (pixels == pixels[0, 0]).all():
        raise UnusableImage(f"every pixel is {pixels[0, 0]}, so that it shows nothing: leave it out")
    if kind in _COLOURS:
        return Image.fromarray(pixels).convert("L")
    if pixels.itemsize > 2:
        return Image.fromarray(_gray(pixels, dataset))
    values, gray = _gray_of_values(pixels, dataset)
    index = f"u{pixels.itemsize}"
    table = np.zeros(2 ** (8 * pixels.itemsize), np.uint8)
    table[values.view(index)] = gray
    return Image.fromarray(table[pixels.view(index)])


def _gray_of_values(pixels: npt.NDArray[Any], dataset: "Dataset") -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Stored values, with all that occur in the image, and their gray: an image has far more pixels than values."""
    between = np.arange(int(pixels.min()), int(pixels.max()) + 1).astype(pixels.dtype)
    with suppress(UnusableImage):  # perhaps because of a value that does not occur
        gray = _gray(between, dataset)
        if gray[0] != gray[-1]:  # two values that occur have different grays
            return between, gray
    occurring = np.unique(pixels)
    return occurring, _gray(occurring, dataset)


def _gray(stored: npt.NDArray[Any], dataset: "Dataset") -> npt.NDArray[np.uint8]:
    """The 8-bit gray of stored values."""
    shown, low, high = _modality(stored.astype(np.float64), dataset)
    gray = _as_shown(shown, dataset, low=low, high=high)
    if gray.min() == gray.max():
        raise UnusableImage("its window or lookup table gives every pixel the same gray: correct or remove the tags")
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
        gray = 1 - gray
    return np.floor(gray * 255 + 0.5).astype(np.uint8)


def _refuse_other_than_one_image(dataset: "Dataset") -> None:
    from pydicom.uid import AllTransferSyntaxes, UID_dictionary

    if dataset.file_meta.get("TransferSyntaxUID") not in AllTransferSyntaxes:
        raise UnusableImage("its TransferSyntaxUID is missing or unknown to the standard: it is damaged")
    if not any(dataset.get(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        # A damaged length can extend a value into the patient's name, so only names from the standard are shown.
        what = UID_dictionary.get(str(dataset.get("SOPClassUID")), ("or the file is truncated",))[0]
        raise UnusableImage(f"it contains no pixels ({what}): leave it out")
    if not dataset.get("PixelData"):
        raise UnusableImage("it contains floating-point pixels, whose white level is unknown: leave it out")
    for name in _REQUIRED:
        if dataset.get(name) in (None, ""):
            raise UnusableImage(f"has no {name}, so that its gray levels are unknown: add the tag, or leave it out")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UnusableImage(f"it contains {frames} frames instead of one: write each to a file of its own")
    kind = str(dataset.PhotometricInterpretation)
    if kind not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise UnusableImage(f"its pixels are {kind}: convert it to MONOCHROME2 or RGB first")
    if kind in _COLOURS and int(dataset.BitsAllocated) != 8:
        raise UnusableImage(f"its colours have {dataset.BitsAllocated} bits: convert it to 8-bit RGB first")
    if int(dataset.get("HighBit", dataset.BitsStored - 1)) != dataset.BitsStored - 1:
        raise UnusableImage(f"HighBit={dataset.HighBit} contradicts BitsStored={dataset.BitsStored}: correct the tags")
    pixels = int(dataset.Rows) * int(dataset.Columns)
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise UnusableImage(f"it is too large: {pixels} pixels, the limit is {Image.MAX_IMAGE_PIXELS}")


def _refuse_another_size(dataset: "Dataset") -> None:
    """Refuse JPEG 2000 of another size than that of the tags, since decoders allocate memory for it."""
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    header = HEADER.search(dataset.PixelData, 0, 4096)
    if header:
        right, bottom, left, top = (int.from_bytes(number) for number in header.groups()[:4])
        if (right - left, bottom - top) != (dataset.Columns, dataset.Rows):
            raise UnusableImage("the size of its compressed picture differs from Rows and Columns: it is damaged")


def _pixels(dataset: "Dataset") -> npt.NDArray[Any]:
    """The stored values, or RGB for colours."""
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:
        if syntax.is_compressed and "missing dependencies" in str(error):
            raise UnusableImage(
                f"its pixels are compressed as {syntax.name}, which needs a decoder: {INSTALL} adds JPEG 2000; for "
                "others install python-gdcm, or decompress the file (dcmdjpeg, gdcmconv --raw)"
            ) from error
        raise


def _modality(stored: Floats, dataset: "Dataset") -> tuple[Floats, float, float]:
    """Values after the modality LUT or rescale, and the smallest and largest possible value.

    12-bit values in a file that states more bits end at 4095, as those of a 16-bit PNG do (images.py): without a window
    the image would be almost black otherwise.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    if stored.min() >= 0 and stored.max() <= _TWELVE_BIT_WHITE < high:
        low, high = 0.0, float(_TWELVE_BIT_WHITE)
    if dataset.get("ModalityLUTSequence"):
        table, first, top = _table(dataset.ModalityLUTSequence[0], signed=signed)
        return _looked_up(stored, table, first), 0.0, top
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        raise UnusableImage("its RescaleSlope is 0, which makes every pixel equal: correct the tag")
    low, high = sorted((low * slope + intercept, high * slope + intercept))
    return stored * slope + intercept, low, high


def _as_shown(values: Floats, dataset: "Dataset", *, low: float, high: float) -> Floats:
    """0 (black) to 1 (white) as in MONOCHROME2: by the first VOI LUT, else the first window, else the whole range."""
    if dataset.get("VOILUTSequence"):
        table, first, top = _table(dataset.VOILUTSequence[0], signed=low < 0)
        return np.clip(_looked_up(values, table, first) / top, 0, 1)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is not None and width is not None:
        return _windowed(values, center=center, width=width, function=str(dataset.get("VOILUTFunction") or "LINEAR"))
    if values.min() < low or values.max() > high:
        raise UnusableImage(
            f"its values range from {values.min():.0f} to {values.max():.0f}, but BitsStored={dataset.BitsStored} "
            f"allows {low:.0f} to {high:.0f}, and it has no window: correct the tag"
        )
    return (values - low) / (high - low)


def _windowed(values: Floats, *, center: float, width: float, function: str) -> Floats:
    """The window functions of PS3.3 C.11.2.1.2 and C.11.2.1.3: two linear ones that clip, and a sigmoid."""
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0 or (function == "LINEAR" and width < 1):
        raise UnusableImage(f"its window (center {center:g}, width {width:g}) is invalid: correct or remove the tags")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise UnusableImage(f"its VOILUTFunction {function} is none of LINEAR, LINEAR_EXACT, SIGMOID: correct the tag")
    if width == 1:  # a threshold
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _table(item: "Dataset", *, signed: bool) -> tuple[Floats, int, float]:
    """Entries of a lookup table, the value that its first entry maps, and the largest value of its bits."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    if signed and first >= 2**15:
        first -= 2**16  # pydicom reads a descriptor of ambiguous type as unsigned
    data = item.LUTData
    table = (
        np.frombuffer(data, np.uint8 if len(data) == entries else "<u2")
        if isinstance(data, bytes)
        else np.atleast_1d(np.asarray(data))
    )
    if not 8 <= bits <= 16 or len(table) < entries:
        raise UnusableImage(f"its lookup table has {len(table)} entries of {bits} bits instead of {entries}")
    return table[:entries].astype(np.float64), first, 2.0**bits - 1


def _looked_up(values: Floats, table: Floats, first: int) -> Floats:
    values_of_table: Floats = table[np.clip(np.floor(values + 0.5) - first, 0, len(table) - 1).astype(np.int64)]
    return values_of_table


def _first(dataset: "Dataset", name: str) -> float | None:
    """The first number of a tag (an image may have several windows); None if the tag is missing or empty."""
    value = dataset.get(name)
    if value is None or value == "" or (not isinstance(value, str | int | float) and not _has_items(value)):
        return None
    return float(value[0] if _has_items(value) else value)


def _has_items(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str) and len(value) > 0


def _number(dataset: "Dataset", name: str, otherwise: float) -> float:
    value = _first(dataset, name)
    return otherwise if value is None else value
