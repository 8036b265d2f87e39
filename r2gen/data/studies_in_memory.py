"""Studies as Python programs hold them: lists of images, or data frames with the columns of a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2gen.data.image_folder import ImageFolder
from r2gen.data.image_input import is_dataset
from r2gen.data.listed_studies import StudyImages
from r2gen.data.table_columns import recognise
from r2gen.data.table_context import study_of
from r2gen.data.table_file import SUFFIXES, text_of
from r2gen.data.table_studies import TableStudy, cell_of, items_of
from r2gen.errors import UserError, shown

TABLES = (*SUFFIXES, ".json")


def studies_of(studies: Any, *, images: str | Path | None = None) -> tuple[list[StudyImages], Any]:
    """The studies that were passed and, of a data frame, the index of their rows.

    `images` is the folder that the paths in a data frame are below. Raises UserError naming what is no study.
    """
    if is_frame(studies):
        return _of_frame(studies, None if images is None else Path(images))
    if images is not None:
        raise UserError("images= is for the paths in a data frame: pass the path of each image")
    if isinstance(studies, str | Path) and (Path(studies).is_dir() or Path(studies).suffix.lower() in TABLES):
        raise UserError(
            f"{shown(studies)} is not an image. Pass a list of images or a data frame, or use task=predict "
            f"studies={shown(studies)}."
        )
    if _is_image(studies):
        studies = [studies]
    if not isinstance(studies, list | tuple):
        raise UserError(
            f"a {type(studies).__name__} is no list of studies. Pass a list of images, or of lists of images."
        )
    return [
        StudyImages(str(number), list(study) if isinstance(study, list | tuple) else [study])
        for number, study in enumerate(studies)
    ], None


def is_frame(item: object) -> bool:
    """Whether it is a pandas data frame, without importing pandas."""
    return type(item).__module__.partition(".")[0] == "pandas" and hasattr(item, "columns")


def _is_image(item: object) -> bool:
    return isinstance(item, str | Path | Image.Image | np.ndarray) or is_dataset(item)


def _of_frame(frame: Any, images: Path | None) -> tuple[list[StudyImages], Any]:
    named = recognise([str(name) for name in frame.columns], {}, where="the data frame")
    if not named.images:
        raise UserError(
            f"the data frame has no column of images; its columns are {shown(', '.join(map(str, frame.columns)))}. "
            "Name it image, or image1 and image2."
        )
    folder, study = None if images is None else ImageFolder(images), named.get("study")
    groups: dict[str, TableStudy] = {}
    for number, row in enumerate(frame.to_dict("records")):
        id = text_of(row[study]) if study is not None else str(number)
        if not id:
            raise UserError(f"row {number} of the data frame: {study} is empty")
        group = groups.setdefault(id, TableStudy(id, number))
        items = list(_items(row, named.images, folder, where=f"row {number} of the data frame"))
        group.images += items
        group.views += [cell_of(row, named, "view")] * len(items)
        group.add_context(row, named)
        group.texts["context"] = group.texts.get("context") or cell_of(row, named, "context")
    listed = [StudyImages(id, group.images, context=study_of(group)) for id, group in groups.items()]
    return listed, frame.index if study is None else range(len(listed))


def _items(row: Any, columns: Sequence[str], folder: ImageFolder | None, *, where: str) -> Iterator[Any]:
    for column in columns:
        cell = row[column]
        for item in items_of(cell) if isinstance(cell, str | list | tuple) or not _is_image(cell) else [cell]:
            try:
                yield folder.root / folder.find(item) if folder is not None and isinstance(item, str) else item
            except LookupError as error:
                raise UserError(f"{where}: {error}") from error
