"""Check every image of a data set before training: its path, header and end, or its pixels."""

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

from tqdm import tqdm

from r2gen.data.annotation_file import refuse
from r2gen.data.dicom import MARK, SUFFIXES, require_pydicom
from r2gen.data.images import BROKEN, decode_image, one_picture, open_image
from r2gen.errors import UserError, shown
from r2gen.runs.files import write_whole

READER = 1  # raise when folder.py or dicom.py refuses more than before: images known as good are then decoded again
_AT_ONCE = 128  # images a thread takes; Pillow decodes, and a network disk answers, without the interpreter's lock
_THREADS = 8
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
Stamp = tuple[int, int]  # size in bytes, time of the last change in ns


def check_images(
    images: Mapping[str, str], folder: Path, *, annotation: Path, decode: bool, gray_bits: int | None = None
) -> None:
    """Raise UserError naming the first five images that cannot be used, and their number.

    `images` maps each image to the entry that names it. It exists, is below `folder` (also where it is a link), is
    no empty file, has the header of an image of bearable size, and ends as its format does. With `decode`: its pixels
    can be read. Images decoded once are known by size and time (cache_file).
    """
    known, began = (_read_cache(folder, gray_bits) if decode else {}), time.monotonic()
    if decode:
        print(f"checking {len(images):,} images (data.check=full), {len(known):,} known by size and time", flush=True)
    root = folder.resolve()

    def look(view: str) -> tuple[str, Stamp | None, str | None]:
        path = folder / view
        stamp, fault = _placed(path, root)
        if fault is None and (stamp != known.get(view) or not decode):
            fault = _decoded(path, gray_bits) if decode else _headed(path, gray_bits)
        return view, stamp, fault

    faults, good = [], dict[str, Stamp]()
    for view, stamp, fault in _in_threads(look, list(images), "decode" if decode else "images"):
        if fault is not None:
            faults.append(f"{images[view]}: image {shown(view)} {fault}")
        elif stamp is not None:
            good[view] = stamp
    if decode:
        _write_cache(folder, gray_bits, {**known, **good})
        print(
            f"{len(good):,} images can be decoded, {len(faults):,} cannot ({time.monotonic() - began:.1f} s)",
            flush=True,
        )
    advice = (
        f"\nimages are read below {folder}: set data.images to the folder that image_path starts from"
        if faults and not good
        else ""
    )
    refuse(f"{annotation}: {len(faults):,} of {len(images):,} images cannot be used", faults, advice=advice)


def _in_threads(
    look: Callable[[str], tuple[str, Stamp | None, str | None]], views: Sequence[str], title: str
) -> Iterator[tuple[str, Stamp | None, str | None]]:
    """Each image looked at, in order, with a bar on a terminal once it takes longer than a second."""
    pool = ThreadPoolExecutor(_THREADS)
    parts = [views[start : start + _AT_ONCE] for start in range(0, len(views), _AT_ONCE)]
    try:
        with (
            warnings.catch_warnings(),
            tqdm(total=len(views), desc=title, unit="image", disable=None, leave=False, delay=1) as bar,
        ):
            warnings.simplefilter("ignore")  # of metadata, as in read_image
            for part in pool.map(lambda some: [look(view) for view in some], parts):
                yield from part
                bar.update(len(part))
    finally:
        pool.shutdown(cancel_futures=True)


def _placed(path: Path, root: Path) -> tuple[Stamp | None, str | None]:
    """Size and time of the file, or what is wrong with its place.

    An image that is a link must end below the image folder, or beside itself; folders may be links to anywhere.
    """
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            end, folder = path.resolve(strict=True), path.parent.resolve()
            if not (end.is_relative_to(root) or end.is_relative_to(folder)):
                return None, f"is a link that leaves the image folder (to {end}): copy the image, or link its folder"
            found = path.stat()
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, RuntimeError, ValueError) as error:
        return None, f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if not stat.S_ISREG(found.st_mode):
        return None, "is a folder" if stat.S_ISDIR(found.st_mode) else "is no file"
    if found.st_size == 0:
        return None, "is an empty file"
    return (found.st_size, found.st_mtime_ns), None


def _headed(path: Path, gray_bits: int | None) -> str | None:
    """What is wrong with the header of an image, and with its end, which a broken download lacks."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
            if head[128:] == MARK or path.suffix.lower() in SUFFIXES:
                require_pydicom(path)
                return None if head[128:] == MARK else _decoded(path, gray_bits)
            file.seek(0)
            image = open_image(file)
            one_picture(image)
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_PNG_END)))
            kind, end = image.format, file.read()
    except (*BROKEN, UserError):
        return _decoded(path, gray_bits)  # for its words
    whole = (kind == "PNG" and end.endswith(_PNG_END)) or (kind in ("JPEG", "MPO") and end.endswith(_JPEG_END))
    # Other formats have no end sign, and some programs write behind it: there only decoding tells.
    return None if whole else _decoded(path, gray_bits)


def _decoded(path: Path, gray_bits: int | None) -> str | None:
    try:
        decode_image(path, at_least_px=None, gray_bits=gray_bits)
    except UserError as error:
        return str(error).removeprefix(f"image {path} ").removeprefix(f"image {path}: ")
    return None


def cache_file(folder: Path) -> Path:
    """Where the images of a folder that could be decoded are kept: $XDG_CACHE_HOME/r2gen, readable by its owner.

    Raises OSError where neither that nor a home is known, as in a container that runs under a number.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "XDG_CACHE_HOME and HOME are not set") from error
    return home / "r2gen" / f"images-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"


def _read_cache(folder: Path, gray_bits: int | None) -> dict[str, Stamp]:
    """Image to size and time; empty where there is no cache, a torn one, or one of another reader."""
    try:
        found = json.loads(cache_file(folder).read_text(encoding="utf-8"))
        if [found["reader"], found["gray_bits"]] != [READER, gray_bits]:
            return {}
        return {view: (size, changed_ns) for view, (size, changed_ns) in found["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_cache(folder: Path, gray_bits: int | None, images: Mapping[str, Stamp]) -> None:
    try:
        file = cache_file(folder)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, json.dumps({"reader": READER, "gray_bits": gray_bits, "images": images}))
        file.chmod(0o600)
    except OSError as error:
        print(f"the images are not remembered ({error}): data.check=full decodes them again next time", flush=True)
