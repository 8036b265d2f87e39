"""Images from files of every common kind as 8-bit gray."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2gen.data.images import read_image, to_gray
from r2gen.errors import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP),
        Image.fromarray(RAMP.astype(np.uint16) * 257),
        Image.fromarray(RAMP).convert("RGB"),
        Image.fromarray(RAMP).convert("RGBA"),
        Image.fromarray(RAMP).convert("LA"),
        Image.fromarray(RAMP).convert("P"),
    ],
    ids=["gray", "16-bit", "rgb", "rgba", "gray with alpha", "palette"],
)
def test_a_gray_ramp_is_the_same_from_every_kind_of_png(image: Image.Image, tmp_path: Path) -> None:
    image = read_image(saved(image, tmp_path / "image.png"))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), RAMP)


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "RGB", "RGBA", "LA", "P"])
def test_an_image_in_memory_becomes_the_same_gray_as_its_file(mode: str) -> None:
    image = Image.fromarray(RAMP.astype(np.uint16) * 257) if mode.startswith("I") else Image.fromarray(RAMP)
    image = to_gray(image if image.mode == mode else image.convert(mode))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), RAMP)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="white level is unknown"):
        to_gray(Image.fromarray(RAMP.astype(np.float32)))


def test_16_bit_gray_is_scaled_and_rounded_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    image = read_image(saved(Image.fromarray(values), tmp_path / "image.png"))
    np.testing.assert_array_equal(np.asarray(image), np.round(values / 257).astype(np.uint8))


def test_transparent_pixels_become_black_for_any_colour(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    image.putpixel((1, 0), (255, 255, 255, 255))
    assert list(read_image(saved(image, tmp_path / "image.png")).tobytes()) == [0, 255]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 255, 255, 255, 255, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert list(read_image(tmp_path / "palette.png").tobytes()) == [0, 255]


def test_gray_and_rgb_jpegs_are_close_to_the_original(tmp_path: Path) -> None:
    for image in (Image.fromarray(RAMP), Image.fromarray(RAMP).convert("RGB")):
        image = read_image(saved(image, tmp_path / "image.jpg"))
        assert image.mode == "L"
        assert np.abs(np.asarray(image, int) - RAMP).mean() < 3


def test_missing_truncated_and_foreign_files_are_reported_with_their_path(tmp_path: Path) -> None:
    whole = saved(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)), tmp_path / "whole.png"
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    foreign = tmp_path / "foreign.png"
    foreign.write_text("not an image")
    for path in (tmp_path / "missing.png", cut, foreign, tmp_path):
        with pytest.raises(UserError, match=str(path)):
            read_image(path)


def add_sbit(path: Path, bits: int) -> None:
    """Insert an sBIT chunk after the header of a PNG."""
    raw = path.read_bytes()
    chunk = b"sBIT" + bytes([bits])
    path.write_bytes(raw[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + raw[33:])


def test_the_white_level_is_that_of_the_chunk_the_option_or_the_range(tmp_path: Path) -> None:
    values = np.array([[0, 100, 2000, 4095]], dtype=np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "image.png")
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.round(values / 4095 * 255))
    for bits in (14, 15):
        assert np.asarray(read_image(path, gray_bits=bits))[0, 3] == round(4095 / (2**bits - 1) * 255)
    add_sbit(path, 13)
    assert np.asarray(read_image(path, gray_bits=16))[0, 3] == round(4095 / 8191 * 255), (
        "the chunk takes precedence over the option"
    )
    saved(Image.fromarray(values + 1), path)
    assert list(read_image(path).tobytes()) == [0, 0, 8, 16], "an image of more than 12 bits has 16"
    with pytest.raises(UserError, match=r"values reach 4096, but 12 bits of gray end at 4095"):
        read_image(path, gray_bits=12)


def test_a_large_jpeg_is_decoded_at_a_smaller_size_with_nearly_the_same_result(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:1200, 0:1000] / 100
    image = Image.fromarray((127 + 60 * np.sin(rows * 3) * np.cos(columns * 2) + 60 * np.sin(columns)).astype(np.uint8))
    for mode in (image, image.convert("RGB")):
        path = saved(mode, tmp_path / "image.jpg")
        whole, small = read_image(path), read_image(path, at_least_px=112)
        assert (whole.size, small.size) == ((1000, 1200), (250, 300))
        size = (112, 112)
        difference = np.asarray(whole.resize(size, 3), int) - np.asarray(small.resize(size, 3), int)
        assert np.abs(difference).mean() < 0.5
        assert read_image(path, at_least_px=600).size == (1000, 1200)


def test_an_image_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((8, 24), 30, np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").size == (8, 24)


@pytest.mark.parametrize("name", ["image.tiff", "image.gif", "image.png"])
def test_several_pictures_in_one_file_are_refused(name: str, tmp_path: Path) -> None:
    pictures = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    with pytest.raises(UserError, match="contains 2 pictures instead of one"):
        read_image(tmp_path / name)


def test_thirty_megapixels_are_read_and_ninety_are_refused(tmp_path: Path) -> None:
    saved(Image.new("L", (6000, 5000)), tmp_path / "large.png")
    assert read_image(tmp_path / "large.png").size == (6000, 5000)
    saved(Image.new("1", (10_000, 9_000)), tmp_path / "huge.png")
    with pytest.raises(UserError, match="too large: 10000 x 9000 pixels") as refused:
        read_image(tmp_path / "huge.png")
    assert "\n" not in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(
    position=st.integers(0, 800), junk=st.binary(min_size=1, max_size=12), kind=st.sampled_from(["png", "jpg", "tiff"])
)
def test_randomly_changed_bytes_give_an_image_or_a_message(
    position: int, junk: bytes, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"junk.{kind}"
    Image.fromarray(RAMP).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:position] + junk + raw[position + len(junk) :])
    image = None
    with contextlib.suppress(UserError):
        image = read_image(path)
    assert image is None or image.mode == "L"


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path):
    file = tmp_path / "frontal.png"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 2500000\n")
    with pytest.raises(UserError, match=r"image .*frontal\.png is a git-LFS pointer to a file of 2\.5 MB"):
        read_image(file)
