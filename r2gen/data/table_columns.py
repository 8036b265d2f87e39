"""The columns of a table of studies: recognised by their names, or named by options."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2gen.config.names import suggest
from r2gen.errors import UserError, shown

# Names of columns by what they hold, in lower case without spaces and punctuation; the first that a table has counts.
NAMES = {
    "image": (
        *("image", "images", "imagepath", "imagepaths", "path", "paths", "filename", "filenames", "file", "files"),
        *("filepath", "imagefile", "imagename", "img", "imgpath", "dicompath", "dicom", "dcm"),
    ),
    "study": (
        *("studyid", "study", "studyinstanceuid", "studyuid", "accession", "accessionnumber", "examid", "exam"),
        *("reportid", "uid", "id"),
    ),
    "patient": ("patientid", "subjectid", "patient", "subject", "pid"),
    "report": ("report", "reporttext", "fullreport", "radiologyreport", "text"),
    "findings": ("findings", "finding", "findingstext"),
    "impression": ("impression", "impressions", "impressiontext", "conclusion"),
    "context": ("context", "indication", "history", "clinicalhistory", "clinicalinformation"),
    "technique": ("technique", "techniques"),
    "comparison": ("comparison", "comparisons"),
    "age": ("age", "patientage", "ageinyears"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "date": ("date", "studydate", "examdate", "examinationdate", "studydatetime", "datetime"),
    "time": ("time", "studytime", "examtime", "examinationtime"),
    "split": ("split", "subset", "set", "partition"),
    "view": ("view", "viewposition", "projection"),
}
TEXTS = ("report", "findings", "impression", "context")
CONTEXT = ("technique", "comparison", "age", "sex", "date", "time")  # what a study may have once, in any of its rows
_NUMBERED = re.compile(r"(image|img|imagepath|path|file|filename)(\d+)")
_BY_VIEW = re.compile(r"(frontal|lateral)(image|path|imagepath|file)?")


@dataclass(frozen=True)
class Columns:
    """The column of each kind; `images` may be several, one per view."""

    images: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)  # study, patient, report, ...

    def get(self, kind: str) -> str | None:
        return self.others.get(kind)

    def described(self) -> str:
        """As `image=path, study=study_id`."""
        images = [f"image={'+'.join(self.images)}"] if self.images else []
        return ", ".join([*images, *(f"{kind}={name}" for kind, name in self.others.items())])


def require(columns: Sequence[str], names: Sequence[str], *, where: Path) -> None:
    """Raise UserError if a published table lacks a column."""
    if absent := [name for name in names if name not in columns]:
        raise UserError(
            f"{where} has no column {', '.join(absent)}: its columns are {shown(', '.join(columns))}. Use the "
            "published file, or data=csv for another table."
        )


def recognise(columns: Sequence[str], options: Mapping[str, Any], *, where: str) -> Columns:
    """The columns that `prepare.columns` names, and those with a usual name. `where` begins messages."""
    named = {kind: value for kind, value in options.items() if value is not None}
    for kind, value in named.items():
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise UserError(f"prepare.columns.{kind}={shown(value)}: give a column, or a list such as [a,b].")
        if len(names) > 1 and kind != "image":
            raise UserError(f"prepare.columns.{kind}={shown(value)}: give one column.")
        for name in names:
            if name not in columns:
                listed = shown(", ".join(columns))
                raise UserError(
                    f"prepare.columns.{kind}={shown(name)}: {where} has no such column{suggest(name, columns)}; "
                    f"its columns are {listed}."
                )
    taken = [name for value in named.values() for name in (value if isinstance(value, list) else [value])]
    free = {plain_name(name): name for name in reversed(columns) if name not in taken}
    images = named.pop("image", None)
    chosen = {kind: named[kind] if kind in named else _usual(kind, free) for kind in NAMES if kind != "image"}
    return Columns(
        images=tuple([images] if isinstance(images, str) else images or _images(free)),
        others={kind: name if isinstance(name, str) else name[0] for kind, name in chosen.items() if name},
    )


def _usual(kind: str, free: Mapping[str, str]) -> str | None:
    return next((free[name] for name in NAMES[kind] if name in free), None)


def _images(free: Mapping[str, str]) -> list[str]:
    if usual := _usual("image", free):
        return [usual]
    numbered = sorted((int(match[2]), name) for plain, name in free.items() if (match := _NUMBERED.fullmatch(plain)))
    by_view = sorted((plain, name) for plain, name in free.items() if _BY_VIEW.fullmatch(plain))  # frontal first
    return [name for _, name in numbered] or [name for _, name in by_view]


def plain_name(name: str) -> str:
    """The name of a column as it is compared: in lower case, without spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
