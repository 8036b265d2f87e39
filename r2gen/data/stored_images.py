"""Resized images in a folder on disk, so that large files are decoded once and not in every training."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from r2gen.data.reports import ImageFile
from r2gen.errors import UserError

FORMAT = 1  # higher once this code decodes or resizes in another way
DECODERS = ("pillow", "pydicom", "pylibjpeg-openjpeg")  # whose next version may give other gray levels


class StoredImages:
    """Images [H, W] by their view, each stored under a name that has the content of its file.

    So a file that is replaced gets another name, and a copy of it the same one. The names also have the size, how gray
    levels are read, and the versions of the decoders. Files are written whole or not at all, by any number of
    processes. If the disk is full, images are decoded as they would be without the folder.
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
        self.reading = f"{FORMAT} {size_px} {' '.join(map(_version, DECODERS))}"
        self.writes = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"trainer.image_cache={folder} cannot be made ({error.strerror}): give another folder, or use "
                "trainer.image_cache=null"
            ) from error

    def __call__(self, view: str) -> torch.Tensor:
        stored = self._stored(view)
        image_HW = None if stored is None else self._read(stored)
        if image_HW is None:
            image_HW = self.load(view)
            if stored is not None and self.writes:
                self._write(stored, image_HW)
        return image_HW

    def _stored(self, view: str) -> Path | None:
        """Where the image is stored; None if it has no file, or one that cannot be read, as `load` will say."""
        source = self.file_of(view)
        if source is None:
            return None
        try:
            with source.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError:
            return None
        digest.update(f"{source.gray_bits} {self.reading}".encode())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npy"

    def _read(self, stored: Path) -> torch.Tensor | None:
        try:
            image_HW = np.load(stored, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # not stored, or damaged
            return None
        fits = image_HW.dtype == np.uint8 and image_HW.shape == (self.size_px, self.size_px)
        return torch.from_numpy(image_HW) if fits else None

    def _write(self, stored: Path, image_HW: torch.Tensor) -> None:
        part = stored.with_suffix(f".{os.getpid()}.partial")
        try:
            stored.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                np.save(file, image_HW.numpy())
            part.replace(stored)
        except OSError:  # a full disk, for example
            self.writes = False
            with suppress(OSError):
                part.unlink()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
