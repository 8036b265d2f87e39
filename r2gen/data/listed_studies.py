"""The studies of a folder, a table or an annotation that have images and need no report: what task=predict reads."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation import prepared_images
from r2gen.data.annotation_context import resolve_priors, with_context
from r2gen.data.annotation_fault import Fault
from r2gen.data.annotation_file import read_splits, refuse
from r2gen.data.cleaning import Cleaner, clean_report
from r2gen.data.image_folder import ImageFolder
from r2gen.data.reports import Study
from r2gen.data.table import images_of
from r2gen.data.table_columns import recognise
from r2gen.data.table_context import study_of
from r2gen.data.table_file import open_table
from r2gen.data.table_studies import TableReader
from r2gen.errors import UserError, shown


@dataclass(frozen=True)
class StudyImages:
    """A study and its images, in any form that image_input.py reads; `error` says why they cannot be read."""

    id: str
    images: Sequence[Any]
    error: str = ""
    context: Study | None = None  # what is known besides its images; None: nothing
    prior_images: Sequence[Any] = ()  # those of context.prior; empty if they do not exist
    fills: bool = True  # position, age and sex that are missing come from the headers of DICOM images


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
    are one. A table is read as by task=prepare. Of an annotation, all splits are read, and `cleaner` cleans the reports
    of prior studies. Raises UserError if there is no study, if ids repeat, or if the file cannot be read.
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
        StudyImages(
            id,
            tuple(folder.root / image for image in study.images),
            error="; ".join(study.missing),
            context=study_of(study),
        )
        for id, study in studies.items()
    ]


def _of_annotation(source: Path, images: Path | None, cleaner: Cleaner) -> list[StudyImages]:
    """Studies of R2Gen's format, which may have no report."""
    folder = ImageFolder(images or source.parent / prepared_images(source))
    studies: dict[str, list[Study]] = {}
    ids, faults = set[str](), []
    for split, entries in read_splits(source).items():
        studies[split] = []
        for index, entry in enumerate(entries):
            where = f"{split}[{index}]"
            id, names = (entry.get("id"), entry.get("image_path")) if isinstance(entry, dict) else (None, None)
            if not isinstance(id, str) or not id or not isinstance(names, list):
                faults.append(f"{where} needs an id (a string) and image_path (a list)")
                continue
            if id in ids:
                faults.append(f"{where}: id {shown(id)} is used twice")
            ids.add(id)
            try:
                studies[split].append(_of_entry(entry, cleaner))
            except Fault as fault:
                faults.append(f"{where} (id {shown(id)}): {fault}")
    refuse(str(source), faults or resolve_priors(studies))
    return [_found(study, folder) for some in studies.values() for study in some]


def _of_entry(entry: Plain, cleaner: Cleaner) -> Study:
    """A study whose report is empty if its entry has none. Raises Fault."""
    report, views = entry.get("report"), tuple(map(str, entry["image_path"]))
    study = Study(entry["id"], views, clean_report(report, cleaner) if isinstance(report, str) else "")
    return with_context(study, entry, cleaner)


def _found(study: Study, folder: ImageFolder) -> StudyImages:
    try:
        if not study.views:
            raise LookupError("image_path names no image")
        images = tuple(folder.root / folder.find(name) for name in study.views)
    except LookupError as error:
        return StudyImages(study.id, (), error=str(error))
    prior_images: tuple[Path, ...] = ()
    if study.prior is not None:
        with suppress(LookupError):  # only a run that uses them needs them
            prior_images = tuple(folder.root / folder.find(name) for name in study.prior.views)
    # Training reads no headers with an annotation.
    return StudyImages(study.id, images, context=replace(study, report=""), prior_images=prior_images, fills=False)
