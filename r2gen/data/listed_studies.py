"""The studies of a folder, a table or an annotation that have images and need no report: what task=predict reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_context import resolve_priors, with_context
from r2gen.data.annotation_fault import Fault
from r2gen.data.annotation_file import read_splits, refuse
from r2gen.data.cleaning import Cleaner, clean_report
from r2gen.data.image_folder import ImageFolder
from r2gen.data.prepared_files import read_provenance
from r2gen.data.reports import Study
from r2gen.data.table import images_of
from r2gen.data.table_columns import recognise
from r2gen.data.table_file import open_table
from r2gen.data.table_studies import TableReader
from r2gen.errors import UserError, shown


@dataclass(frozen=True)
class StudyImages:
    """A study and its images, in any form that image_input.py reads; `error` says why they cannot be read."""

    id: str
    images: Sequence[Any]
    error: str = ""
    context: Study | None = None  # what is known besides the images; its views are those in `images`
    prior_images: Sequence[Any] = ()


def list_studies(
    source: Path,
    *,
    images: Path | None = None,
    columns: Mapping[str, Any] | None = None,
    encoding: str = "utf-8",
    cleaner: Cleaner = "none",
) -> list[StudyImages]:
    """The studies in `source`, in its order. No image is read, except the headers of DICOM files in a folder.

    In a folder, each image is a study, each folder with images is one, and DICOM files with the same StudyInstanceUID
    are one. A table is read as by task=prepare. Of an annotation, all splits are read, and its context is, with the
    reports of prior studies cleaned by `cleaner`. Raises UserError if there is no study, if ids repeat, or if the file
    cannot be read.
    """
    if not source.exists():
        raise UserError(f"studies={source} does not exist. Give a folder of images, a table, or an annotation.json.")
    if source.is_dir() and not _is_saved_dataset(source):
        folder = ImageFolder(source)
        studies = [
            StudyImages(id, tuple(source / image for image in some)) for id, some in sorted(folder.studies().items())
        ]
    elif source.suffix.lower() == ".json":
        studies = _of_annotation(source, images, cleaner)
    else:
        studies = _of_table(source, images, columns or {}, encoding)
    if not studies:
        raise UserError(f"studies={source}: there is no study in it. Give a folder of images (PNG, JPEG, DICOM, ...).")
    return studies


def _is_saved_dataset(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _of_table(source: Path, images: Path | None, columns: Mapping[str, Any], encoding: str) -> list[StudyImages]:
    table = open_table(source, encoding=encoding)
    folder = ImageFolder(images_of(source, images))
    reader = TableReader(table, recognise(table.columns, columns, where=source.name), folder, texts=False)
    studies = reader.read()
    refuse(str(source), reader.faults)
    return [
        StudyImages(id, tuple(folder.root / image for image in study.images), error="; ".join(study.missing))
        for id, study in studies.items()
    ]


def _of_annotation(source: Path, images: Path | None, cleaner: Cleaner) -> list[StudyImages]:
    """Studies of R2Gen's format, which may have no report."""
    facts = read_provenance(source)
    named = facts.get("images") if isinstance(facts, dict) else None
    root = images or source.parent / (named if isinstance(named, str) and ".." not in Path(named).parts else "images")
    folder = ImageFolder(root)
    studies: dict[str, StudyImages] = {}
    faults: list[str] = []
    contexts: dict[str, list[Study]] = {}
    for split, entries in read_splits(source).items():
        for index, entry in enumerate(entries):
            where = f"{split}[{index}]"
            id, names = (entry.get("id"), entry.get("image_path")) if isinstance(entry, dict) else (None, None)
            if not isinstance(id, str) or not id or not isinstance(names, list):
                faults.append(f"{where} needs an id (a string) and image_path (a list)")
            elif id in studies:
                faults.append(f"{where}: id {shown(id)} is used twice")
            else:
                studies[id] = _of_entry(id, names, folder)
                try:
                    contexts.setdefault(split, []).append(_context(id, entry, cleaner))
                except Fault as fault:
                    faults.append(f"{where} (id {shown(id)}): {fault}")
    faults += resolve_priors(contexts)
    refuse(str(source), faults)
    return [_with_context(studies[context.id], context, folder) for some in contexts.values() for context in some]


def _context(id: str, entry: Plain, cleaner: Cleaner) -> Study:
    report = entry.get("report")
    report = clean_report(report, cleaner) if isinstance(report, str) else ""
    return with_context(Study(id, tuple(map(str, entry["image_path"])), report), entry, cleaner)


def _with_context(study: StudyImages, context: Study, folder: ImageFolder) -> StudyImages:
    views = context.prior.views if context.prior is not None else ()
    try:
        prior_images = tuple(folder.root / folder.find(str(view)) for view in views)
    except LookupError as error:
        return replace(study, error=study.error or f"its prior study: {error}")
    return replace(study, context=context, prior_images=prior_images)


def _of_entry(id: str, names: list[Any], folder: ImageFolder) -> StudyImages:
    try:
        if not names:
            raise LookupError("image_path names no image")
        return StudyImages(id, tuple(folder.root / folder.find(str(name)) for name in names))
    except LookupError as error:
        return StudyImages(id, (), error=str(error))
