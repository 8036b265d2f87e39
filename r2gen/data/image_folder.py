"""Images below a folder: by the names that a table has for them, by the id of their study, and as studies of their own.

Every path that comes out is relative to the folder, with slashes, and without `..`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from r2gen.data.dicom import PREFIX, SUFFIXES, require_pydicom
from r2gen.errors import UserError, shown
from r2gen.runs.files import is_file
from r2gen.runs.progress import bar

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".ppm", ".pgm", *SUFFIXES)
_DRIVE = re.compile(r"^[A-Za-z]:/*")
_UIDS = ("StudyInstanceUID", "AccessionNumber")
MOST_FILES = 20_000_000  # far more than any data set has: the folder is the wrong one, such as /


class ImageFolder:
    """The images below a folder, which is searched once, and only if a name needs it."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root} does not exist. Set prepare.images to the folder of the images.")
        self.root = root

    def find(self, name: str) -> str:
        """The image of a name: a path below the folder, a file name, or a path of another machine (C:\\scans\\a.png).

        The suffix may be missing. Raises LookupError with the reason if no image has the name, or several. A folder in
        the name must be the folder of the image, so that a missing image is not taken from another study.
        """
        path = _DRIVE.sub("/", name.replace("\\", "/"))
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise LookupError(f"image {shown(name)} leaves the image folder")
        if not parts:
            raise LookupError("an image has no name")
        for start in range(len(parts)):
            if start and not path.startswith("/") and parts[:start] != list(self.root.parts[-start:]):
                continue
            relative = "/".join(parts[start:])
            if is_file(self.root / relative):
                return relative
        for groups in (self._by_name, self._by_stem):
            candidates = groups.get(parts[-1].lower(), [])
            if len(parts) > 1:
                candidates = [
                    file for file in candidates if PurePosixPath(file).parent.name.lower() == parts[-2].lower()
                ]
            if len(candidates) > 1:
                named = ", ".join(candidates[:2])
                raise LookupError(f"image {shown(name)} is one of {len(candidates)} files ({named})")
            if candidates:
                return candidates[0]
        raise LookupError(f"image {shown(name)} does not exist")

    def of_study(self, id: str) -> list[str]:
        """The images of a study: those of a folder with its id as name, or a file, or DICOM files with it as UID."""
        key = id.replace("\\", "/").strip("/").lower()
        for images in (self._by_folder, self._by_stem, self._by_uid):
            for name in (key, f"s{key}"):
                if name in images:
                    return list(images[name])
        return []

    @cached_property
    def files(self) -> list[str]:
        """All images below the folder, in the order of their names."""
        return sorted(_images_below(self.root))

    @cached_property
    def _by_name(self) -> Mapping[str, list[str]]:
        return _grouped((PurePosixPath(file).name.lower(), file) for file in self.files)

    @cached_property
    def _by_stem(self) -> Mapping[str, list[str]]:
        return _grouped((PurePosixPath(file).stem.lower(), file) for file in self.files)

    @cached_property
    def _by_folder(self) -> Mapping[str, list[str]]:
        """By the path of a folder and by its name; a folder holds the images of the folders in it too."""
        pairs = []
        for file in self.files:
            for folder in PurePosixPath(file).parents:
                if folder.name:
                    pairs += [(name, file) for name in {str(folder).lower(), folder.name.lower()}]
        return _grouped(pairs)

    @cached_property
    def _by_uid(self) -> Mapping[str, list[str]]:
        return _grouped(
            (tags[name].lower(), file) for file, tags in self._tags.items() for name in _UIDS if tags.get(name)
        )

    @cached_property
    def _tags(self) -> Mapping[str, Mapping[str, str]]:
        """The ids in each DICOM file."""
        files = [file for file in self.files if _is_dicom(self.root / file)]
        tags = {}
        with bar(total=len(files), title="DICOM headers", unit="file", delay_s=1) as shown_files:
            for file in files:
                tags[file] = _ids_in(self.root / file)
                shown_files.update()
        return tags

    def studies(self) -> dict[str, list[str]]:
        """Id to images, of a folder without a table.

        An image directly in the folder is a study, and a folder below it with its images is one. DICOM files with the
        same StudyInstanceUID are one study, wherever they are.
        """
        studies: dict[str, list[str]] = {}
        for file in self.files:
            uid = self._tags[file].get("StudyInstanceUID") if file in self._tags else None
            parent = PurePosixPath(file).parent
            studies.setdefault(uid or (file if str(parent) == "." else str(parent)), []).append(file)
        return studies


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, file in pairs:
        groups.setdefault(key, []).append(file)
    return groups


def _images_below(root: Path) -> Iterator[str]:
    count, visited = 0, set[tuple[int, int]]()
    with bar(total=None, title=f"files below {root.name}", unit="file", delay_s=1) as shown_files:
        for folder, folders, files in os.walk(root, followlinks=True):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:  # a link to a folder that contains it
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            relative = os.path.relpath(folder, root)
            count += len(files)
            shown_files.update(len(files))
            if count > MOST_FILES:
                raise UserError(f"{root} holds more than {MOST_FILES:,} files. Set prepare.images to a smaller folder.")
            for name in files:
                if not name.startswith(".") and _may_be_image(Path(folder, name)):
                    yield name if relative == "." else f"{relative}/{name}"


def _may_be_image(path: Path) -> bool:
    """Whether the suffix is one of an image; a file without a usual suffix is one if it has the DICOM prefix."""
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return True
    return (suffix == "" or suffix[1:].isdigit()) and path.name != "DICOMDIR" and _has_prefix(path)


def _has_prefix(path: Path) -> bool:
    try:
        if not path.is_file():  # a FIFO would not end
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == PREFIX
    except OSError:
        return False


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or (path.suffix.lower() not in IMAGES and _has_prefix(path))


def _ids_in(path: Path) -> dict[str, str]:
    """StudyInstanceUID and AccessionNumber of a DICOM file; empty if it cannot be read, which decoding reports."""
    require_pydicom(path)
    import pydicom

    try:
        dataset: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_UIDS))
        return {name: str(dataset.get(name) or "").strip() for name in _UIDS}
    except Exception:  # pydicom raises many types on damaged files; the image is read later, and the fault reported
        return {}
