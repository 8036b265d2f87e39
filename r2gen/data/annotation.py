"""Reports in R2Gen's format: an annotation.json of three splits beside a folder of films. Imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from r2gen.data.cleaning import Cleaner, clean_report, is_empty
from r2gen.data.images import read_film
from r2gen.data.reports import SPLITS, Study
from r2gen.errors import UserError

_NAMED_IN_MESSAGE = 5


class AnnotatedReports:
    """Studies of `{"train": [{"id", "report", "image_path": [film, ...]}], "val": [...], "test": [...]}`.

    A study has as many views as image_path names, in that order; other keys are not read. Everything is checked here,
    once: every film exists, ids are unique over all splits, no report is empty. Raises UserError with the file, split
    and index.
    """

    def __init__(
        self,
        *,
        root: str,
        cleaner: Literal["iu_xray", "mimic_cxr", "none"],  # spelt out: run.py reads it from this source
        annotation: str = "annotation.json",
        images: str = "images",
    ) -> None:
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"data.root={root} does not exist: point it at the folder that holds {annotation} and {images}/"
            )
        self._images = folder / images
        self._cleaner: Cleaner = cleaner
        self._file = folder / annotation
        entries = _read_splits(self._file)
        self._studies = {split: self._read_split(split, entries.get(split, [])) for split in SPLITS}
        if not any(self._studies.values()):
            raise UserError(f"{self._file} holds no study in any of {', '.join(SPLITS)}")
        self._check_ids()
        self._check_films()

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of train, val or test in the order of the file; empty where the split is."""
        if split not in self._studies:
            raise UserError(f"data.split={split} is none of {', '.join(SPLITS)}")
        return self._studies[split]

    def film(self, view: str) -> Image.Image:
        """The film named in Study.views, 8-bit gray (mode L), at its own size in pixels."""
        return read_film(self._images / view)

    def _read_split(self, split: str, entries: list[Any]) -> tuple[Study, ...]:
        return tuple(
            self._read_study(entry, where=f"{self._file}: {split}[{index}]") for index, entry in enumerate(entries)
        )

    def _read_study(self, entry: Any, *, where: str) -> Study:
        if not isinstance(entry, dict):
            raise UserError(f"{where} is no object but {entry!r:.40}")
        for key in ("id", "report", "image_path"):
            if key not in entry:
                raise UserError(f'{where} has no "{key}": every study needs id, report and image_path')
        id, report, views = entry["id"], entry["report"], entry["image_path"]
        if not isinstance(id, str) or not id:
            raise UserError(f"{where}: id {id!r} is no text: write it in quotes")
        where = f"{where} (id {id})"
        if not isinstance(report, str):
            raise UserError(f"{where}: report {report!r:.40} is no text")
        cleaned = clean_report(report, self._cleaner)
        if is_empty(cleaned):
            cause = f"is empty after data.cleaner={self._cleaner}" if not is_empty(report) else "is empty"
            raise UserError(f"{where}: the report {cause}: leave the study out of the annotation")
        if not isinstance(views, list) or not views:
            raise UserError(f"{where}: image_path {views!r:.40} names no film: it must be a list of at least one")
        return Study(id=id, views=tuple(_view(view, where=where) for view in views), report=cleaned)

    def _check_ids(self) -> None:
        first: dict[str, str] = {}
        for split in SPLITS:
            for index, study in enumerate(self._studies[split]):
                here = f"{split}[{index}]"
                if study.id in first:
                    raise UserError(
                        f"{self._file}: id {study.id} stands at {first[study.id]} and at {here}: ids must be unique,"
                        " and no study may be in two splits"
                    )
                first[study.id] = here

    def _check_films(self) -> None:
        views = [view for split in SPLITS for study in self._studies[split] for view in study.views]
        missing = [view for view in views if not (self._images / view).is_file()]
        if missing:
            named = ", ".join(missing[:_NAMED_IN_MESSAGE]) + (", ..." if len(missing) > _NAMED_IN_MESSAGE else "")
            raise UserError(
                f"{len(missing)} of {len(views)} films named in {self._file} are missing under {self._images}: {named}."
                " Set data.images to the folder below data.root that image_path starts from"
            )


def _view(view: Any, *, where: str) -> str:
    """The view's name, once it is known to stay below the image folder (a link below it may point anywhere)."""
    if not isinstance(view, str) or not view:
        raise UserError(f"{where}: image_path holds {view!r:.40}, which names no film")
    path = PurePosixPath(view)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{where}: image_path {view} leaves the image folder: write it relative to data.images")
    return view


def _read_splits(file: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): set data.annotation to the file's name") from error
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, not an object of train, val and test")
    for split, entries in content.items():
        if split not in SPLITS:
            raise UserError(f'{file} has a split "{split}": known are {", ".join(SPLITS)}')
        if not isinstance(entries, list):
            raise UserError(f'{file}: "{split}" is no list of studies')
    return content
