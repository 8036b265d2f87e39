"""DICOM images are converted as viewers show them; files without a usable image are refused with a message."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from smallest_run import ROOT

from r2gen.data.images import read_image
from r2gen.errors import UserError
from r2gen.vision.transforms import ImageTransform

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
)

REAL_JPEG_2000 = "data/films/pydicomdata_RG1_J2KI.dcm"  # a radiograph of 15 bits, MONOCHROME1
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits
VALUES = RAMP.astype(np.float64)


def dicom(path: Path, pixels: np.ndarray | None = RAMP, *, bits: int = 12, **tags: Any) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    if pixels is not None:
        image.Rows, image.Columns = pixels.shape[-2:] if pixels.ndim < 3 or pixels.shape[-1] != 3 else pixels.shape[:2]
        image.SamplesPerPixel = 1
        image.BitsAllocated = pixels.dtype.itemsize * 8
        image.BitsStored, image.HighBit = bits, bits - 1
        image.PixelRepresentation = int(pixels.dtype.kind == "i")
        image.PhotometricInterpretation = "MONOCHROME2"
        image.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(image, name, value)
    image.save_as(path, enforce_file_format=True)
    return path


def shown(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "L"
    return np.asarray(image, dtype=int)


def full(values: np.ndarray, white: float) -> np.ndarray:
    return np.floor(np.clip(values / white, 0, 1) * 255 + 0.5).astype(int)


def lookup(entries: np.ndarray, *, first: int, bits: int) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], entries.astype("<u2").tobytes()
    item.LUTExplanation = "test"
    return [item]


def test_without_a_window_the_range_is_that_of_the_stored_bits(tmp_path: Path) -> None:
    np.testing.assert_array_equal(shown(dicom(tmp_path / "a.dcm", RAMP // 2)), full(RAMP // 2, 4095))
    deep = (RAMP * 16).astype(np.uint16)
    np.testing.assert_array_equal(shown(dicom(tmp_path / "b.dcm", deep, bits=16)), full(deep, 65535))
    signed = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    np.testing.assert_array_equal(shown(dicom(tmp_path / "c.dcm", signed)), full(RAMP, 4095))


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 1000}], ids=["no window", "window"])
def test_an_image_stored_in_both_polarities_gives_the_same_pixels(window: dict[str, int], tmp_path: Path) -> None:
    bright = dicom(tmp_path / "2.dcm", **window)
    dark = dicom(tmp_path / "1.dcm", 4095 - RAMP, PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_array_equal(shown(bright), shown(dark))


def test_the_polarity_tag_inverts_the_image(tmp_path: Path) -> None:
    inverted = shown(dicom(tmp_path / "1.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - shown(dicom(tmp_path / "2.dcm")))


def test_the_first_window_is_applied_as_in_the_standard(tmp_path: Path) -> None:
    linear = shown(dicom(tmp_path / "a.dcm", WindowCenter=[2048, 100], WindowWidth=[1001, 50]))
    np.testing.assert_array_equal(linear, full(VALUES - 2047.5 + 500, 1000))
    exact = shown(dicom(tmp_path / "b.dcm", WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_array_equal(exact, full(VALUES - 2048 + 512, 1024))
    sigmoid = shown(dicom(tmp_path / "c.dcm", WindowCenter=2048, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    np.testing.assert_array_equal(sigmoid, full(1 / (1 + np.exp(-4 * (VALUES - 2048) / 1000)), 1))
    np.testing.assert_array_equal(shown(dicom(tmp_path / "d.dcm", WindowCenter="", WindowWidth="")), full(RAMP, 4095))


def test_rescale_is_applied_before_the_window(tmp_path: Path) -> None:
    image = dicom(tmp_path / "a.dcm", RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000, WindowWidth=2001)
    np.testing.assert_array_equal(shown(image), full(VALUES * 2 - 1000 - 999.5 + 1000, 2000))
    image = dicom(tmp_path / "b.dcm", RescaleSlope=-1, RescaleIntercept=4095)
    np.testing.assert_array_equal(shown(image), full(4095 - VALUES, 4095))


def test_lookup_tables_are_applied_and_clipped_at_their_ends(tmp_path: Path) -> None:
    table = np.linspace(0, 65535, 1000)
    image = dicom(tmp_path / "a.dcm", VOILUTSequence=lookup(table, first=500, bits=16), WindowCenter=1, WindowWidth=2)
    expected = table.astype(np.uint16)[np.clip(VALUES - 500, 0, 999).astype(int)]
    np.testing.assert_array_equal(shown(image), full(expected, 65535))
    image = dicom(tmp_path / "b.dcm", ModalityLUTSequence=lookup(4095 - np.arange(4096), first=0, bits=12))
    np.testing.assert_array_equal(shown(image), full(4095 - VALUES, 4095))


def test_only_values_that_occur_decide_whether_an_image_is_usable(tmp_path: Path) -> None:
    ends = np.array([[0, 2], [2, 0]], np.uint16)
    image = dicom(tmp_path / "a.dcm", ends, VOILUTSequence=lookup(np.array([5, 900, 5]), first=0, bits=10))
    with pytest.raises(UserError, match="the same gray"):
        read_image(image)
    image = dicom(tmp_path / "b.dcm", ends, ModalityLUTSequence=lookup(np.array([5, 2000, 900]), first=0, bits=10))
    np.testing.assert_array_equal(shown(image), full(np.array([[5, 900], [900, 5]]), 1023))


def test_signed_values_of_16_bits_and_values_of_32_bits_are_read(tmp_path: Path) -> None:
    window = {"WindowCenter": 0, "WindowWidth": 4096}
    expected = np.floor(np.clip((VALUES - 2048 + 0.5) / 4095 + 0.5, 0, 1) * 255 + 0.5)
    for kind in (np.int16, np.int32):
        image = dicom(
            tmp_path / "a.dcm", (RAMP.astype(np.int64) - 2048).astype(kind), bits=kind(0).itemsize * 8, **window
        )
        np.testing.assert_array_equal(shown(image), expected)


def test_colours_become_gray(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = dicom(
        tmp_path / "a.dcm",
        np.stack([gray] * 3, axis=-1),
        bits=8,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    np.testing.assert_array_equal(shown(image), gray)


REFUSED = [
    ({"pixels": None}, "contains no pixels"),
    ({"pixels": RAMP * 0 + 7}, "every pixel is 7"),
    ({"pixels": np.stack([RAMP, RAMP]), "NumberOfFrames": 2}, "contains 2 frames"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    ({"WindowCenter": 1, "WindowWidth": 0}, "window"),
    ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "CUBIC is none of"),
    ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0"),
    ({"Rows": 60_000, "Columns": 60_000}, "too large"),
    ({"Rows": 65}, "cannot be decoded"),
    ({"PixelData": b"\0\0"}, "cannot be decoded"),
    ({"PixelData": b""}, "contains no pixels"),
    ({"PixelData": RAMP.tobytes() * 2}, "more pixels than"),
    ({"HighBit": 15}, "HighBit=15 contradicts BitsStored=12"),
    ({"WindowCenter": 9000, "WindowWidth": 100}, "gives every pixel the same gray"),
    (
        {
            "pixels": np.full((8, 8, 3), 9, np.uint8),
            "bits": 8,
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 0,
            "PhotometricInterpretation": "RGB",
        },
        r"every pixel is \[9 9 9\]",
    ),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_file_without_a_usable_image_is_refused_with_the_reason(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = dicom(tmp_path / "a.dcm", **changes)
    with pytest.raises(UserError, match=rf"a\.dcm.*{words}") as refused:
        read_image(path)
    assert "\n" not in str(refused.value)


def test_a_jpeg_2000_picture_of_another_size_is_refused_before_memory_is_allocated(
    tmp_path: Path, shared: Path
) -> None:
    whole = bytearray((shared / REAL_JPEG_2000).read_bytes())
    size = whole.index(b"\xff\x4f\xff\x51") + 8
    whole[size : size + 8] = (60_000).to_bytes(4) * 2
    (tmp_path / "a.dcm").write_bytes(whole)
    with pytest.raises(UserError, match="the size of its compressed picture differs"):
        read_image(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_length_does_not_expose_the_patients_name(tmp_path: Path) -> None:
    image = dicom(tmp_path / "a.dcm", None, PatientName="SECRET^NAME")
    whole = image.read_bytes()
    sop = whole.index(b"\x08\0\x16\0UI") + 6  # the SOP class now extends into the patient's name
    image.write_bytes(whole[:sop] + (len(whole) - sop - 2).to_bytes(2, "little") + whole[sop + 2 :])
    assert b"SECRET" in str(pydicom.dcmread(image).SOPClassUID).encode()
    with pytest.raises(UserError, match="contains no pixels") as refused:
        read_image(image)
    assert "SECRET" not in str(refused.value)


def test_dicom_is_recognised_by_its_prefix_and_other_dcm_files_are_refused(tmp_path: Path) -> None:
    np.testing.assert_array_equal(shown(dicom(tmp_path / "image")), full(RAMP, 4095))
    (tmp_path / "a.dcm").write_text("x" * 500)
    with pytest.raises(UserError, match="is not a DICOM file"):
        read_image(tmp_path / "a.dcm")
    whole = dicom(tmp_path / "b.dcm").read_bytes()
    for length in (140, 200, 400, len(whole) - 100):
        (tmp_path / "cut.dcm").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.dcm"):
            read_image(tmp_path / "cut.dcm")


def test_without_pydicom_the_message_names_the_extra(tmp_path: Path) -> None:
    image = dicom(tmp_path / "a.dcm")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['pydicom'] = None\n"
        "from pathlib import Path; from r2gen.data.images import read_image; from r2gen.errors import UserError\n"
        "try: read_image(Path(sys.argv[2]))\nexcept UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT), str(image)], capture_output=True, text=True)
    assert done.stdout.strip() == f"image {image} is DICOM, which needs pydicom: pip install -e '.[dicom]'", done.stderr


def test_real_images_keep_their_polarity(shared: Path) -> None:
    folder = shared / "data/films"
    original, inverted = shown(folder / "txv_rsna.dcm"), shown(folder / "txv_Fake_MONOHR1.dcm")
    np.testing.assert_array_equal(inverted, 255 - original)
    deep = shown(shared / REAL_JPEG_2000)
    assert deep.shape == (1955, 1841)
    assert deep[900:1100, 900:1000].mean() > deep[900:1100, 300:400].mean() + 20, "the spine is brighter than the lung"


@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 16), (np.uint16, 14), (np.int16, 16)])
def test_12_bit_values_in_more_stored_bits_are_scaled_as_those_of_a_png(kind: Any, bits: int, tmp_path: Path) -> None:
    pixels = RAMP.astype(kind)
    np.testing.assert_array_equal(shown(dicom(tmp_path / "a.dcm", pixels, bits=bits)), full(VALUES, 4095))
    brighter = pixels.copy()
    brighter[0, 0] = 8000
    assert shown(dicom(tmp_path / "b.dcm", brighter.astype(np.uint16), bits=16)).max() < 40


@pytest.mark.parametrize("tag", ["PhotometricInterpretation", "BitsStored", "PixelRepresentation", "Rows"])
def test_a_missing_tag_is_named(tag: str, tmp_path: Path) -> None:
    file = dicom(tmp_path / "a.dcm")
    image = pydicom.dcmread(file)
    delattr(image, tag)
    image.save_as(file)
    with pytest.raises(UserError, match=f"has no {tag}, so that its gray levels are unknown"):
        read_image(file)


def compressed(path: Path) -> Path:
    image = pydicom.dcmread(path)
    image.compress(JPEG2000Lossless)
    image.save_as(path, enforce_file_format=True)
    return path


def squares(path: Path, px: int) -> tuple[Image.Image, np.ndarray]:
    """The image as it is decoded for a square, and the differences of that square from the one of the whole image."""
    whole, reduced = read_image(path), read_image(path, at_least_px=px)
    of_whole, of_reduced = (ImageTransform(px)(image).numpy().astype(int) for image in (whole, reduced))
    return reduced, np.abs(of_reduced - of_whole)


def texture(height: int, width: int, white: int) -> np.ndarray:
    """Soft shapes with fine grain."""
    drawn = np.random.default_rng(0)
    soft = Image.fromarray(drawn.uniform(0.1, 0.9, (12, 10)).astype(np.float32)).resize((width, height))
    return np.clip((np.asarray(soft) + drawn.normal(0, 0.02, (height, width))) * white, 0, white)


@pytest.mark.parametrize(
    ("size", "halved"), [((800, 640), 2), ((803, 641), 1), ((642, 803), 2), ((200, 640), 0)], ids=str
)
@pytest.mark.parametrize(
    ("kind", "bits", "tags"),
    [
        (np.uint16, 12, {}),
        (np.uint16, 10, {"PhotometricInterpretation": "MONOCHROME1"}),
        (np.uint16, 15, {"WindowCenter": 16000, "WindowWidth": 24000, "PhotometricInterpretation": "MONOCHROME1"}),
    ],
    ids=str,
)
def test_jpeg_2000_is_decoded_at_a_fraction_of_its_size_with_the_same_grays(
    kind: Any, bits: int, tags: dict[str, Any], size: tuple[int, int], halved: int, tmp_path: Path
) -> None:
    pixels = texture(*size, 2**bits - 1).astype(kind)
    reduced, apart = squares(compressed(dicom(tmp_path / "a.dcm", pixels, bits=bits, **tags)), 75)
    assert reduced.size == tuple(round(side / 2**halved) for side in reversed(size))
    assert apart.max() <= 2
    assert apart.mean() < 0.37, "where the picture is not put in its place, the mean is .4 to 3"


def test_jpeg_2000_is_decoded_whole_where_its_largest_value_decides_what_is_white(tmp_path: Path) -> None:
    pixels = texture(640, 640, 4000).astype(np.uint16)
    pixels[321, 321] = 5000  # one pixel, which a reduced image loses
    reduced, apart = squares(compressed(dicom(tmp_path / "a.dcm", pixels, bits=16)), 64)
    assert reduced.size == (640, 640)
    assert apart.max() == 0
    signed = (texture(640, 640, 4000) - 2000).astype(np.int16)
    assert squares(compressed(dicom(tmp_path / "b.dcm", signed)), 64)[0].size == (640, 640)
    bytes_ = texture(640, 640, 255).astype(np.uint8)
    assert squares(compressed(dicom(tmp_path / "c.dcm", bytes_, bits=8)), 64)[1].max() == 0


def test_damaged_jpeg_2000_is_refused_as_when_it_is_decoded_whole(tmp_path: Path) -> None:
    image = compressed(dicom(tmp_path / "a.dcm", texture(640, 640, 4095).astype(np.uint16)))
    whole = bytearray(image.read_bytes())
    start = whole.index(b"\xff\x4f\xff\x51")
    whole[start + 60 : start + 4000] = bytes(3940)
    image.write_bytes(whole)
    messages = []
    for px in (None, 64):
        with pytest.raises(UserError) as refused:
            read_image(image, at_least_px=px)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


def test_a_real_jpeg_2000_has_the_same_grays_at_half_its_size(shared: Path) -> None:
    reduced, apart = squares(shared / REAL_JPEG_2000, 224)
    assert reduced.size == (920, 978)
    assert apart.max() <= 1
    assert apart.mean() < 0.2
