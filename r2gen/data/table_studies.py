"""The studies of a table: rows with the same study id are one study, and every fault has the number of its row."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from r2gen.data.image_folder import ImageFolder
from r2gen.data.table_columns import CONTEXT, TEXTS, Columns
from r2gen.data.table_file import Table, text_of
from r2gen.errors import UserError, shown
from r2gen.runs.files import new_file
from r2gen.runs.progress import bar
from r2gen.runs.untrusted import parse_json

_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
    b"GIF8": ".gif",
}


@dataclass
class TableStudy:
    """What the rows of one study hold."""

    id: str
    row: int  # the first one
    images: list[str] = field(default_factory=list)  # below the image folder
    views: list[str] = field(default_factory=list)  # of each image; empty if the table has no view
    texts: dict[str, str] = field(default_factory=dict)  # report, findings, impression, context
    context: dict[str, str] = field(default_factory=dict)  # of table_columns.CONTEXT: the first cell that is not empty
    patient: str = ""
    split: str = ""
    missing: list[str] = field(default_factory=list)  # why images cannot be found

    def add_context(self, row: Mapping[str, Any], columns: Columns) -> None:
        """Take what a row says of CONTEXT, where no earlier row of the study says it."""
        for kind in CONTEXT:
            if value := cell_of(row, columns, kind):
                self.context.setdefault(kind, value)


def cell_of(row: Mapping[str, Any], columns: Columns, kind: str) -> str:
    """The text of a cell; empty if no column is of this kind."""
    column = columns.get(kind)
    return "" if column is None else text_of(row.get(column))


class TableReader:
    """Reads the rows of a table. `faults` are those that no option accepts, such as a repeated id."""

    def __init__(
        self,
        table: Table,
        columns: Columns,
        folder: ImageFolder,
        *,
        embedded: Path | None = None,
        texts: bool = True,
    ) -> None:
        """`embedded` is the folder to which images inside the table are written; None: they are a fault.

        With texts=False, reports, patients and splits are ignored, and a study may have several indications, of which
        the first counts.
        """
        self.table, self.columns, self.folder, self.embedded = table, columns, folder, embedded
        self.studies: dict[str, TableStudy] = {}
        self.faults: list[str] = []
        self.texts = texts
        self.rows = 0
        self._row_of_image: dict[str, int] = {}
        self._written = 0

    def read(self) -> dict[str, TableStudy]:
        """The studies by id, in the order of their first rows. Raises UserError if a row cannot be read."""
        if not self.columns.images and self.columns.get("study") is None:
            raise UserError(
                f"{self.table.path}: no column names the images or the study; the columns are "
                f"{shown(', '.join(self.table.columns))}. Add prepare.columns.image=COLUMN, or .study=COLUMN "
                "where folders have the ids of studies."
            )
        with bar(total=None, title=self.table.path.name, unit="row", delay_s=1) as shown_rows:
            for number, row in self.table.rows():
                self.rows += 1
                self._add(number, row)
                shown_rows.update()
        return self.studies

    def _add(self, number: int, row: Mapping[str, Any]) -> None:
        id = self._cell(row, "study")
        images, missing = self._images(number, row, id)
        if self.columns.get("study") is None:
            id = str(PurePosixPath(images[0]).with_suffix("")) if images else f"{self.table.unit}-{number}"
        elif not id:
            self.faults.append(f"{self.table.at(number)}: the study has no id ({self.columns.get('study')} is empty)")
            return
        study = self.studies.setdefault(id, TableStudy(id, number))
        where = f"{self.table.at(number)} (study {shown(id)})"
        for kind in TEXTS if self.texts else ():
            self._set(study.texts, kind, self._cell(row, kind), where=where, first=study.row)
        if not self.texts and (indication := self._cell(row, "context")):
            study.texts.setdefault("context", indication)
        study.add_context(row, self.columns)
        others = {"patient": study.patient, "split": study.split}
        for kind in others if self.texts else ():
            self._set(others, kind, self._cell(row, kind), where=where, first=study.row)
        study.patient, study.split = others["patient"], others["split"]
        study.missing += [f"{where}: {reason}" for reason in missing]
        view = self._cell(row, "view").upper()
        for image in images:
            first = self._row_of_image.setdefault(image, number)
            if first != number or image in study.images:
                self.faults.append(f"{where}: image {shown(image)} is also in {self.table.at(first)}")
                continue
            study.images.append(image)
            study.views.append(view)

    def _set(self, values: dict[str, str], kind: str, value: str, *, where: str, first: int) -> None:
        """Set what a study has once; rows of the same study may repeat it or leave it empty."""
        if value and values.get(kind) and values[kind] != value:
            fix = " (is the id that of a patient? Name the column of the study, or give every study its own id)"
            self.faults.append(f"{where}: another {kind} than in {self.table.at(first)}{fix if kind in TEXTS else ''}")
        elif value:
            values[kind] = value

    def _cell(self, row: Mapping[str, Any], kind: str) -> str:
        return cell_of(row, self.columns, kind)

    def _images(self, number: int, row: Mapping[str, Any], id: str) -> tuple[list[str], list[str]]:
        """The images of a row, and why others cannot be found."""
        if not self.columns.images:
            images = self.folder.of_study(id) if id else []
            return images, [] if images else [f"no folder, file or DICOM study below {self.folder.root} has this id"]
        images, missing = list[str](), list[str]()
        for column in self.columns.images:
            for item in items_of(row.get(column)):
                try:
                    images.append(self._image(number, item))
                except LookupError as error:
                    missing.append(str(error))
        return images, missing if images or missing else [f"no image ({'+'.join(self.columns.images)} is empty)"]

    def _image(self, number: int, item: Any) -> str:
        content = item if isinstance(item, bytes) else item.get("bytes") if isinstance(item, dict) else None
        if content is not None:
            if self.embedded is None:
                raise LookupError("an image inside the table is read by task=prepare only")
            return self._write(number, content)
        name = item.get("path") if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise LookupError(f"{item!r:.40} is not the path of an image")
        return self.folder.find(name)

    def _write(self, number: int, content: bytes) -> str:
        """Write an image that the table contains, and return its name."""
        assert self.embedded is not None
        suffix = next((suffix for magic, suffix in _MAGIC.items() if content.startswith(magic)), ".dcm")
        name = f"{number:07d}-{self._written}{suffix}"
        self._written += 1
        with new_file(self.embedded / name) as file:
            file.write(content)
        return name


def items_of(cell: Any) -> list[Any]:
    """The images in a cell: a path, several separated by ; or |, a JSON list, a list, or an image of `datasets`."""
    if isinstance(cell, list | tuple):
        return [item for item in cell if item is not None]
    if isinstance(cell, dict | bytes):
        return [cell]
    text = text_of(cell)
    if text.startswith("[") and text.endswith("]"):
        for parse in (parse_json, ast.literal_eval):  # pandas writes a list with single quotes
            try:
                value = parse(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return [item for item in value if item] if isinstance(value, list) else [text]
    return [part.strip() for part in text.replace("|", ";").split(";") if part.strip()]
