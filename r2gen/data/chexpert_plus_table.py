"""The studies of CheXpert Plus's table, which has one row for each image."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.annotation_file import refuse
from r2gen.data.mimic_sections import one_line
from r2gen.data.positions import position_of
from r2gen.data.table_columns import require
from r2gen.data.table_file import Table, text_of
from r2gen.errors import shown
from r2gen.runs.progress import bar

# Our name of a text, and the columns that hold it, of which the first that is not empty counts. section_narrative holds
# most of the whole report, so it is never an indication.
TEXTS = {
    "findings": ("section_findings",),
    "impression": ("section_impression",),
    "indication": ("section_clinical_history", "section_history"),
    "comparison": ("section_comparison",),
    "technique": ("section_technique",),
}
SPLITS = {"train": "train", "valid": "val"}
COLUMNS = (
    *("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order"),
    *(column for columns in TEXTS.values() for column in columns),
    *("age", "sex", "split"),
)
_PATH = re.compile(r"((?:train|valid)/(patient\d+)/(study\d+)/[A-Za-z0-9_-]+)\.(?:jpg|png|dcm)", re.ASCII)


@dataclass
class CheXpertStudy:
    """What the rows of one study hold."""

    id: str  # patient42142_study5
    patient: str
    split: str  # train or val
    order: float | None  # patient_report_date_order; None if it is empty
    age: float | None
    sex: str | None
    texts: dict[str, str]  # without empty ones
    images: list[tuple[str, str]] = field(default_factory=list)  # path without suffix, position
    differs: bool = False  # whether another row of it has another text


def studies_of(table: Table) -> dict[str, CheXpertStudy]:
    """The studies by id, in the order of their first rows. Raises UserError with the rows at fault."""
    require(table.columns, COLUMNS, where=table.path)
    studies, seen, faults = dict[str, CheXpertStudy](), set[str](), list[str]()
    splits: dict[str, str] = {}
    with bar(total=None, title=table.path.name, unit="row", delay_s=1) as shown_rows:
        for number, row in table.rows():
            shown_rows.update()
            try:
                path, study = _read(row)
                if path in seen:
                    raise ValueError(f"image {path} is listed twice")
                if splits.setdefault(study.patient, study.split) != study.split:
                    raise ValueError(f"{study.patient} is in two splits")
            except ValueError as error:
                faults.append(f"{table.at(number)}: {error}")
                continue
            seen.add(path)
            first = studies.setdefault(study.id, study)
            if first is not study:
                first.images += study.images
                first.differs |= first.texts != study.texts
                first.texts = {**study.texts, **first.texts}
    refuse(str(table.path), faults)
    return studies


def _read(row: Mapping[str, Any]) -> tuple[str, CheXpertStudy]:
    """The path of a row's image without suffix, and its study as far as the row has it. Raises ValueError."""
    path = _PATH.fullmatch(text_of(row["path_to_image"]))
    if path is None:
        raise ValueError(
            f"path_to_image {shown(row['path_to_image'])} is not like train/patient1/study1/view1_frontal.jpg"
        )
    patient, split, order = (text_of(row[name]) for name in ("deid_patient_id", "split", "patient_report_date_order"))
    if patient != path[2]:
        raise ValueError(f"deid_patient_id {shown(patient)} is not that of {path[0]}")
    if split not in SPLITS:
        raise ValueError(f"split {shown(split) or 'empty'} is none of {', '.join(SPLITS)}")
    texts = {}
    for name, columns in TEXTS.items():
        if text := next(filter(None, (one_line(text_of(row[column])) for column in columns)), ""):
            texts[name] = text
    return path[1], CheXpertStudy(
        id=f"{path[2]}_{path[3]}",
        patient=patient,
        split=SPLITS[split],
        order=_value(row, "patient_report_date_order", float) if order else None,
        age=_value(row, "age", age_of),
        sex=_value(row, "sex", sex_of),
        texts=texts,
        images=[(path[1], _position(row))],
    )


def _value(row: Mapping[str, Any], column: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text_of(row[column]))
    except ValueError:
        raise ValueError(f"{column} {shown(row[column])} cannot be read") from None


def _position(row: Mapping[str, Any]) -> str:
    """The position of a row's image: AP or PA where a frontal image has it."""
    kind, beam = position_of(text_of(row["frontal_lateral"])), position_of(text_of(row["ap_pa"]))
    if kind not in ("FRONTAL", "LATERAL"):
        raise ValueError(f"frontal_lateral {shown(row['frontal_lateral']) or 'empty'} is not Frontal or Lateral")
    return beam if kind == "FRONTAL" and beam in ("AP", "PA") else kind
