"""Checks of every image before training: its path, header and end, or its pixels."""

import contextlib
import errno
import hashlib
import json
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from r2gen.data.annotation_file import refuse
from r2gen.data.dicom import PREFIX, SUFFIXES, require_pydicom
from r2gen.data.images import READ_ERRORS, decode_image, open_image, refuse_several_pictures
from r2gen.errors import UserError, shown
from r2gen.runs.files import refuse_link, write_whole
from r2gen.runs.progress import bar
from r2gen.runs.untrusted import read_json

READER = 1  # raise if images.py or dicom.py refuses more than before (other gray levels: stored_images.FORMAT)
_AT_ONCE = 128  # images per task of a thread
_THREADS = 8  # Pillow decodes, and a network disk is read, without the interpreter's lock
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
Stamp = tuple[int, int]  # size in bytes, time of the last change in ns


def check_images(
    images: Mapping[str, str], folder: Path, *, annotation: Path, decode: bool, gray_bits: int | None = None
) -> None:
    """Raise UserError with the first five images that cannot be used, and their number.

    `images` maps each image to the entry that names it. An image must exist, be below `folder` (also if it is a link),
    not be empty, have the header of an image that is not too large, and end as its format does. With `decode` its
    pixels must be readable; images that were decoded once are cached by size and time (cache_file).
    """
    began = time.monotonic()
    if decode:
        _refuse_linked_cache(folder)
    cached = _read_cache(folder, gray_bits) if decode else {}
    if decode:
        print(f"checking {len(images):,} images (data.check=full), {len(cached):,} cached by size and time", flush=True)
    root = folder.resolve()

    def check(view: str) -> tuple[str, Stamp | None, str | None]:
        path = folder / view
        stamp, fault = _stamp_or_fault(path, root)
        if fault is None and (stamp != cached.get(view) or not decode):
            fault = _pixel_fault(path, gray_bits) if decode else _header_fault(path, gray_bits)
        return view, stamp, fault

    faults, good = [], dict[str, Stamp]()
    for view, stamp, fault in _in_threads(check, list(images), "decode" if decode else "images"):
        if fault is not None:
            faults.append(f"{images[view]}: image {shown(view)} {fault}")
        elif stamp is not None:
            good[view] = stamp
    if decode:
        _write_cache(folder, gray_bits, {**cached, **good})
        print(
            f"{len(good):,} images can be decoded, {len(faults):,} cannot ({time.monotonic() - began:.1f} s)",
            flush=True,
        )
    advice = (
        f"\nImages are read below {folder}. Set data.images to the folder that image_path is relative to."
        if faults and not good
        else ""
    )
    refuse(f"{annotation}: {len(faults):,} of {len(images):,} images cannot be used", faults, advice=advice)


def image_fault(path: Path, folder: Path) -> str | None:
    """Why data.check=fast refuses an image below `folder`; None if it does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in read_image
        _, fault = _stamp_or_fault(path, folder)
        return fault or _header_fault(path, None)


def link_fault(path: Path, folder: Path) -> str | None:
    """Why an image that is a link is refused; None if it is not.

    Its target must be below the image folder or in the folder of the link. Folders may be links to anywhere.
    """
    if not path.is_symlink():
        return None
    end = Path(os.path.realpath(path))  # of a loop too, which path.resolve() raises for
    if end.is_relative_to(folder.resolve()) or end.is_relative_to(path.parent.resolve()):
        return None
    return f"is a link that leaves the image folder (to {end}): copy the image, or link its folder"


def _in_threads(
    check: Callable[[str], tuple[str, Stamp | None, str | None]], views: Sequence[str], title: str
) -> Iterator[tuple[str, Stamp | None, str | None]]:
    """The result of each check in order, with a progress bar on a terminal after one second."""
    pool = ThreadPoolExecutor(_THREADS)
    parts = [views[start : start + _AT_ONCE] for start in range(0, len(views), _AT_ONCE)]
    try:
        with (
            warnings.catch_warnings(),
            bar(total=len(views), title=title, unit="image", delay_s=1) as shown,
        ):
            warnings.simplefilter("ignore")  # as in read_image
            for part in pool.map(lambda some: [check(view) for view in some], parts):
                yield from part
                shown.update(len(part))
    finally:
        pool.shutdown(cancel_futures=True)


def _stamp_or_fault(path: Path, root: Path) -> tuple[Stamp | None, str | None]:
    """Size and time of the file, or the fault of its path."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            status = path.stat()
            if fault := link_fault(path, root):
                return None, fault
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, RuntimeError, ValueError) as error:
        return None, f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if not stat.S_ISREG(status.st_mode):
        return None, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a file"
    if status.st_size == 0:
        return None, "is an empty file"
    return (status.st_size, status.st_mtime_ns), None


def _header_fault(path: Path, gray_bits: int | None) -> str | None:
    """The fault of an image's header, or of its end, which an interrupted download lacks; None if it has no fault."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
            if head[128:] == PREFIX or path.suffix.lower() in SUFFIXES:
                require_pydicom(path)
                return None if head[128:] == PREFIX else _pixel_fault(path, gray_bits)
            file.seek(0)
            image = open_image(file)
            refuse_several_pictures(image)
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_PNG_END)))
            kind, end = image.format, file.read()
    except (*READ_ERRORS, UserError):
        return _pixel_fault(path, gray_bits)  # decoding gives the same message as data.check=full
    whole = (kind == "PNG" and end.endswith(_PNG_END)) or (kind in ("JPEG", "MPO") and end.endswith(_JPEG_END))
    # Other formats have no end marker, and some programs append bytes: only decoding shows that the file is whole.
    return None if whole else _pixel_fault(path, gray_bits)


def _pixel_fault(path: Path, gray_bits: int | None) -> str | None:
    """Why an image cannot be decoded; None if it can."""
    try:
        decode_image(path, at_least_px=None, gray_bits=gray_bits)
    except UserError as error:
        return str(error).removeprefix(f"image {path} ").removeprefix(f"image {path}: ")
    return None


def cache_file(folder: Path) -> Path:
    """The file in $XDG_CACHE_HOME/r2gen that lists the decoded images of a folder, readable by its owner.

    Raises OSError if neither XDG_CACHE_HOME nor a home folder is set, as in a container that runs under a user number.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "XDG_CACHE_HOME and HOME are not set") from error
    return home / "r2gen" / f"images-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"


def _refuse_linked_cache(folder: Path) -> None:
    """Raise UserError where the cache, or its folder, is a link."""
    with contextlib.suppress(OSError):
        file = cache_file(folder)
        for path in (file.parent, file):
            refuse_link(path)


def _read_cache(folder: Path, gray_bits: int | None) -> dict[str, Stamp]:
    """Image to size and time; empty if there is no cache, a damaged one, or one of another READER."""
    try:
        cache = read_json(cache_file(folder))
        if [cache["reader"], cache["gray_bits"]] != [READER, gray_bits]:
            return {}
        return {view: (int(size), int(changed_ns)) for view, (size, changed_ns) in cache["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(folder: Path, gray_bits: int | None, images: Mapping[str, Stamp]) -> None:
    try:
        file = cache_file(folder)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, json.dumps({"reader": READER, "gray_bits": gray_bits, "images": images}))
    except OSError as error:
        print(f"the checked images are not cached ({error}): data.check=full decodes them again next time", flush=True)
