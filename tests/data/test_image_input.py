"""Images as Python programs hold them become the pixels that the file of the same image becomes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from r2gen.data.image_input import read_gray
from r2gen.errors import UserError

GRAY = (np.arange(64).reshape(8, 8) * 4).astype(np.uint8)
FORMS: dict[str, Any] = {
    "uint8": GRAY,
    "three equal channels": np.stack([GRAY] * 3, axis=2),
    "one channel": GRAY[:, :, None],
    "opaque RGBA": np.dstack([GRAY, GRAY, GRAY, np.full_like(GRAY, 255)]),
    "uint16": GRAY.astype(np.uint16) * 257,
    "12 bits in uint16": np.round(GRAY * (4095 / 255)).astype(np.uint16),
    "float32": GRAY.astype(np.float32) / 255,
    "a view with other strides": np.asfortranarray(GRAY),
    "PIL": Image.fromarray(GRAY),
    "RGB of PIL": Image.fromarray(GRAY).convert("RGB"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_the_same_gray(form: str) -> None:
    assert np.array_equal(np.array(read_gray(FORMS[form])), GRAY)


def test_a_path_a_bool_array_and_the_stated_bits_are_read(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(np.array(read_gray(path)), GRAY)
    assert np.array(read_gray(GRAY > 90)).max() == 255
    assert np.array(read_gray(np.full((2, 2), 1023, np.uint16), gray_bits=10)).min() == 255


REFUSED: dict[str, tuple[Any, str]] = {
    "float out of range": (GRAY.astype(float), r"an array cannot be used: its floats range from 0 to 252: scale them"),
    "NaN": (np.full((2, 2), np.nan), "scale them"),
    "int64": (GRAY.astype(int), "its values are int64: convert them to uint8, uint16"),
    "channels first": (np.stack([GRAY] * 3), r"its shape is \[3, 8, 8\].*transpose it to \[H, W, 3\]"),
    "a batch": (GRAY[None, None], r"its shape is \[1, 1, 8, 8\]"),
    "nothing": (np.zeros((0, 4), np.uint8), r"its shape is \[0, 4\]"),
    "a number": (3, "a int is not an image. Pass a path"),
    "floating-point PIL": (Image.fromarray(GRAY.astype(np.float32)), "a PIL image cannot be used"),
    "a missing file": ("nowhere.png", "image nowhere.png does not exist"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_has_no_clear_gray_levels_is_refused_with_the_fix(form: str) -> None:
    item, words = REFUSED[form]
    with pytest.raises(UserError, match=words):
        read_gray(item)


def test_a_dataset_gives_the_pixels_of_its_file(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.examples.get_path("rgb_color")
    assert np.array_equal(np.array(read_gray(pydicom.dcmread(file))), np.array(read_gray(file)))
    with pytest.raises(UserError, match="a dataset cannot be used: "):
        read_gray(pydicom.Dataset())
