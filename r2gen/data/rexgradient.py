"""An annotation from ReXGradient-160K: task=prepare data=rexgradient.

ROOT/metadata/{train,valid,test}_metadata_view_position.json, each an object of studies, and the images that they name
in ROOT/deid_png/<PatientID>/<AccessionNumber>/studies/.../instances/<uid>.png. docs/data.md lists what could not be
verified.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r2gen.data import published_studies
from r2gen.data.prepared_files import Preparation, sha256_of_file, unreadable
from r2gen.data.published_studies import PublishedStudy, one_text
from r2gen.data.table_file import text_of
from r2gen.errors import UserError, shown
from r2gen.runs.json_items import read_items
from r2gen.runs.special_files import refuse_special

METADATA, IMAGES = "metadata", "deid_png"
SPLITS = {"train": "train", "valid": "val", "test": "test"}
SUFFIXES = ("_metadata_view_position.json", "_metadata.json")
CONTEXT = {"indication": "Indication", "comparison": "Comparison", "technique": "StudyDescription"}


def prepare(preparation: Preparation) -> str:
    """Write the annotation; return the counts to print."""
    images = preparation.images or IMAGES
    files = {split: _metadata(preparation.root, split) for split in SPLITS}
    return published_studies.prepare(
        preparation,
        (study for split, file in files.items() for study in _studies(file, SPLITS[split])),
        name="rexgradient",
        images=images,
        section=preparation.options["sections"] or "findings",
        policy={},
        sources=lambda: {file.name: sha256_of_file(file) for file in files.values()},
    )


def _metadata(root: Path, split: str) -> Path:
    names = [f"{METADATA}/{split}{suffix}" for suffix in SUFFIXES]
    file = next((root / name for name in names if (root / name).is_file()), None)
    if file is None:
        raise UserError(
            f"data.root={root}: there is no {names[0]}. Set data.root to the folder of ReXGradient-160K, with "
            f"{METADATA}/ and {IMAGES}/."
        )
    return file


def _studies(file: Path, split: str) -> Iterator[PublishedStudy]:
    try:
        refuse_special(file)
        for number, (key, entry) in enumerate(read_items(file), start=1):
            yield _study(entry, key, split, where=f"{file.name}, study {number} ({shown(key)})")
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error


def _study(entry: Any, key: str, split: str, *, where: str) -> PublishedStudy:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r:.40} and not an object of a study.")
    paths, views = entry.get("ImagePath"), entry.get("ImageViewPosition")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UserError(f"{where}: ImagePath {paths!r:.40} is not a list of paths.")
    if views is None:
        views = [""] * len(paths)
    if not isinstance(views, list) or len(views) != len(paths):
        raise UserError(f"{where}: ImageViewPosition is not a list of {len(paths)} views, one for each ImagePath.")
    return PublishedStudy(
        id=key,
        where=where,
        split=split,
        patient=text_of(entry.get("PatientID")),
        study_id=text_of(entry.get("StudyInstanceUid")) or text_of(entry.get("AccessionNumber")),
        images=[(_below_images(path, where), text_of(view)) for path, view in zip(paths, views, strict=True)],
        texts={kind.lower(): one_text(entry.get(kind)) for kind in ("Findings", "Impression")},
        context={kind: one_text(entry.get(name)) for kind, name in CONTEXT.items()},
        age=text_of(entry.get("PatientAge")),
        sex=text_of(entry.get("PatientSex")),
        day=text_of(entry.get("StudyDate")),
    )


def _below_images(path: str, where: str) -> str:
    """A path that is written relative to metadata/, such as ../deid_png/P/A/x.png, relative to the image folder."""
    below = path.replace("\\", "/").removeprefix("../").removeprefix(f"{IMAGES}/")
    if not below or below.startswith("/") or ".." in below.split("/") or "\0" in below:
        raise UserError(f"{where}: ImagePath {shown(path)} leaves {IMAGES}/.")
    return below
