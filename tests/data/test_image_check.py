"""The checks of images before training: fast by header and end, full by decoding."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2gen.data.image_check import cache_file, check_images
from r2gen.errors import UserError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40), np.uint8))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("good.png", "good.jpg", "good.tiff"):
        NOISE.save(folder / name)
    return folder


def check(images: Path, *names: str, decode: bool = False) -> None:
    check_images(
        {name: f"train[{i}] (id s{i})" for i, name in enumerate(names)},
        images,
        annotation=Path("annotation.json"),
        decode=decode,
    )


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    NOISE.save(out, kind)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header states 40,000 x 40,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


FAULTY = {
    "cut.png": (encoded("PNG")[:-400], "cannot be read"),
    "cut.jpg": (encoded("JPEG")[:-200], "cannot be read"),
    "empty.png": (b"", "is an empty file"),
    "foreign.png": (b"not an image at all", "cannot be read"),
    "foreign.dcm": (b"not an image at all" * 20, "is not a DICOM file"),
    "bomb.png": (bomb(), "cannot be read"),
}


@pytest.mark.parametrize("decode", [False, True], ids=["fast", "full"])
@pytest.mark.parametrize("name", FAULTY)
def test_an_image_that_cannot_be_used_is_reported_with_its_entry(name: str, decode: bool, images: Path) -> None:
    content, words = FAULTY[name]
    (images / name).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"annotation.json: 1 of 3 images .*: train\[1\] \(id s1\): image {name} {words}"
    ):
        check(images, "good.png", name, "good.tiff", decode=decode)


def test_missing_images_are_counted_and_the_first_five_are_shown(images: Path) -> None:
    with pytest.raises(UserError, match=r"9 of 10 images.*\n.*x0.png does not exist(.*\n){5}  and 4 more") as refused:
        check(images, "good.png", *(f"x{i}.png" for i in range(9)))
    assert "data.images" not in str(refused.value)
    with pytest.raises(UserError, match=r"Set data\.images to the folder that image_path is relative to"):
        check(images, "x.png")


def test_an_image_with_an_unusual_end_is_decoded_instead_of_refused(images: Path) -> None:
    (images / "tail.jpg").write_bytes(encoded("JPEG") + b"\0" * 16)
    check(images, "tail.jpg", "good.jpg", "good.tiff", "good.png")


def test_an_image_link_may_not_leave_the_image_folder_but_a_folder_link_may(images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    NOISE.save(other / "a.png")
    (images / "inside.png").symlink_to("good.png")
    (images / "disk").symlink_to(other)
    check(images, "inside.png", "disk/a.png")
    (images / "outside.png").symlink_to(other / "a.png")
    with pytest.raises(UserError, match=r"outside.png is a link that leaves the image folder \(to .*other/a.png\)"):
        check(images, "outside.png")
    (images / "loop.png").symlink_to("loop.png")
    with pytest.raises(UserError, match=r"loop.png cannot be read"):
        check(images, "loop.png")
    linked = tmp_path / "linked"
    linked.symlink_to(images)
    check(linked, "good.png")
    (images / "folder").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check(images, "folder")


def test_full_finds_broken_pixels_that_fast_does_not_and_caches_the_good_images(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = bytearray(encoded("PNG"))
    broken[80] ^= 0xFF
    (images / "pixels.png").write_bytes(bytes(broken))
    check(images, "pixels.png")
    with pytest.raises(UserError, match=r"pixels\.png cannot be read"):
        check(images, "pixels.png", "good.png", decode=True)
    check(images, "good.png", "good.jpg", decode=True)
    assert "2 images (data.check=full), 1 cached by size" in capsys.readouterr().out
    assert cache_file(images).stat().st_mode & 0o777 == 0o600
    NOISE.resize((8, 8)).save(images / "good.png")
    (images / "good.jpg").write_bytes(b"now broken")
    os.utime(images / "good.jpg")
    with pytest.raises(UserError, match=r"good.jpg cannot be read"):
        check(images, "good.png", "good.jpg", decode=True)
    cache_file(images).write_text("torn")
    check(images, "good.png", decode=True)


def test_without_a_home_folder_nothing_is_cached_and_odd_names_stay_on_one_line(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # a container with a user number that has no name
    check(images, "good.png", decode=True)
    assert "the checked images are not cached" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"image 'a\\n\\x1b\[31m.png' does not exist") as refused:
        check(images, "a\n\x1b[31m.png", "good.png")
    assert "\n" not in str(refused.value)
