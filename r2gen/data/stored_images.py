"""Resized images in a folder on disk, so that large files are decoded once and not in every training."""

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from r2gen.data.reports import ImageFile
from r2gen.errors import UserError
from r2gen.runs.provenance import version_of

FORMAT = 1  # raise if images.py, dicom.py, jpeg_2000.py or vision/transforms.py gives other gray levels than before
# Packages whose next version may give other gray levels.
DECODERS = ("pillow", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "python-gdcm")
CHECKSUM = 4  # bytes behind the pixels


class StoredImages:
    """Images [H, W] by their view, each stored under a name that has the content of its file.

    So a file that is replaced gets another name, and a copy of it the same one. The names also have the size, how gray
    levels are read, and the versions of the decoders. Files are written whole or not at all, by any number of
    processes. If one cannot be written, such as on a full disk, this process says so once and decodes the others.
    """

    def __init__(
        self,
        load: Callable[[str], torch.Tensor],
        *,
        folder: Path,
        size_px: int,
        file_of: Callable[[str], ImageFile | None],
    ) -> None:
        self.load, self.folder, self.size_px, self.file_of = load, folder, size_px, file_of
        self.reading = f"{FORMAT} {size_px} {' '.join(map(version_of, DECODERS))}"
        self.writes = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"trainer.image_cache={folder} cannot be made ({error.strerror}): give another folder, or use "
                "trainer.image_cache=null"
            ) from error

    def __call__(self, view: str) -> torch.Tensor:
        source = self.file_of(view)
        stored = self._stored(source)
        image_HW = None if stored is None else self._read(stored)
        if image_HW is None:
            image_HW = self.load(view)
            # Not if the file was replaced while it was decoded.
            if stored is not None and self.writes and self._stored(source) == stored:
                self._write(stored, image_HW)
        return image_HW

    def _stored(self, source: ImageFile | None) -> Path | None:
        """Where the image is stored; None if it has no file, or one that cannot be read, as `load` will say."""
        if source is None:
            return None
        try:
            with source.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError:
            return None
        digest.update(f"{source.path.suffix.lower()} {source.gray_bits} {self.reading}".encode())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.gray"

    def _read(self, stored: Path) -> torch.Tensor | None:
        """The stored image; None if there is none, or a damaged one."""
        try:
            if not stored.is_file() or stored.stat().st_size != self.size_px**2 + CHECKSUM:
                return None
            content = stored.read_bytes()
        except OSError:
            return None
        pixels, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        if checksum != _checksum(pixels):
            return None
        return torch.from_numpy(np.frombuffer(pixels, dtype=np.uint8).reshape(self.size_px, self.size_px).copy())

    def _write(self, stored: Path, image_HW: torch.Tensor) -> None:
        pixels, part = image_HW.numpy().tobytes(), None
        try:
            stored.parent.mkdir(parents=True, exist_ok=True)
            number, part = tempfile.mkstemp(dir=stored.parent)
            with os.fdopen(number, "wb") as file:
                file.write(pixels + _checksum(pixels))
            Path(part).replace(stored)
        except OSError as error:
            self.writes = False
            print(f"trainer.image_cache={self.folder}: no more images are stored ({error.strerror})", flush=True)
            if part is not None:
                with suppress(OSError):
                    Path(part).unlink()


def _checksum(pixels: bytes) -> bytes:
    return zlib.crc32(pixels).to_bytes(CHECKSUM, "little")
