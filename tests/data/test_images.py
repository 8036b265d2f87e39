"""Films of every common PNG and JPEG come out as the same 8-bit gray."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2gen.data.images import read_film, to_gray
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
def test_a_gray_ramp_survives_every_png(image: Image.Image, tmp_path: Path) -> None:
    film = read_film(saved(image, tmp_path / "film.png"))
    assert film.mode == "L"
    np.testing.assert_array_equal(np.asarray(film), RAMP)


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "RGB", "RGBA", "LA", "P"])
def test_an_image_in_memory_is_gray_as_its_file_is(mode: str) -> None:
    image = Image.fromarray(RAMP.astype(np.uint16) * 257) if mode.startswith("I") else Image.fromarray(RAMP)
    film = to_gray(image if image.mode == mode else image.convert(mode))
    assert film.mode == "L"
    np.testing.assert_array_equal(np.asarray(film), RAMP)


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="white is unknown"):
        to_gray(Image.fromarray(RAMP.astype(np.float32)))


def test_16_bit_gray_is_rounded_over_its_whole_range_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    film = read_film(saved(Image.fromarray(values), tmp_path / "film.png"))
    np.testing.assert_array_equal(np.asarray(film), np.round(values / 257).astype(np.uint8))


def test_transparent_pixels_are_black_whatever_colour_they_hide(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    image.putpixel((1, 0), (255, 255, 255, 255))
    assert list(read_film(saved(image, tmp_path / "film.png")).tobytes()) == [0, 255]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 255, 255, 255, 255, 255])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert list(read_film(tmp_path / "palette.png").tobytes()) == [0, 255]


def test_jpegs_gray_and_rgb_stay_close(tmp_path: Path) -> None:
    for image in (Image.fromarray(RAMP), Image.fromarray(RAMP).convert("RGB")):
        film = read_film(saved(image, tmp_path / "film.jpg"))
        assert film.mode == "L"
        assert np.abs(np.asarray(film, int) - RAMP).mean() < 3


def test_a_missing_a_cut_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    whole = saved(
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)), tmp_path / "whole.png"
    )
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    foreign = tmp_path / "foreign.png"
    foreign.write_text("no film")
    for path in (tmp_path / "missing.png", cut, foreign, tmp_path):
        with pytest.raises(UserError, match=str(path)):
            read_film(path)
