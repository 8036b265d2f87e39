"""What a table has besides images and reports, as the optional keys of an annotation: texts, age, sex and priors."""

import datetime
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.annotation_context import with_context
from r2gen.data.dicom_tags import may_be_dicom, tags_of
from r2gen.data.mimic_sections import one_line, sections
from r2gen.data.positions import position_of
from r2gen.data.priors import Examination, PriorCounts, add_priors, prior_left_out
from r2gen.data.reports import Study
from r2gen.data.table_columns import Columns
from r2gen.data.table_studies import TableStudy
from r2gen.errors import shown
from r2gen.runs.progress import bar

_DAY = re.compile(r"(\d{4})([-/.]?)(\d\d?)\2(\d\d?)(?:[T ](.*))?")
_DAY_FIRST = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})")  # 01/02/2019 may be of January or February
_TIME = re.compile(
    r"(\d\d?):(\d\d)(?::(\d\d(?:\.\d+)?))?|(\d\d?)(\d\d)(\d\d(?:\.\d+)?)"
)  # DICOM's first zero may be lost
_MIDNIGHT = re.compile(r"[0:.]*")


@dataclass
class TableContext:
    """The optional keys of each study, and what could not be read, by column."""

    keys: dict[str, Plain] = field(default_factory=dict)  # by study id
    days: dict[str, tuple[int, float | None]] = field(default_factory=dict)  # the day, and the part of it, if known
    unread: Counter[str] = field(default_factory=Counter)
    example: str = ""  # one cell that could not be read

    def printed(self) -> list[str]:
        """A line for the user, if something could not be read."""
        counts = ", ".join(f"{kind} {number:,}" for kind, number in sorted(self.unread.items()))
        return [f"not read       {counts}, such as {self.example}; left out"] if counts else []


def context_of(studies: Mapping[str, TableStudy]) -> TableContext:
    """What the rows of each study say. A cell that cannot be read is counted and left out, as an empty one is."""
    context = TableContext()
    for study in studies.values():
        keys: Plain = {key: one_line(study.context.get(key, "")) for key in ("technique", "comparison")}
        keys["age"] = _read(context, study, "age", age_of)
        keys["sex"] = _read(context, study, "sex", sex_of)
        context.keys[study.id] = {key: value for key, value in keys.items() if value not in (None, "")}
        if study.context.get("date"):
            day = _read(context, study, "date", partial(day_of, time=study.context.get("time", "")))
            if day is not None:
                context.days[study.id] = day
    return context


def sections_of_context(report: str, entry: Plain) -> Plain:
    """Indication (or else history), technique and comparison of a whole report, found by their headings."""
    parts = sections(report) if ":" in report else {}
    texts = {key: parts.get(key) for key in ("technique", "comparison")}
    texts["indication"] = None if "context" in entry else parts.get("indication") or parts.get("history")
    return {key: text for key, text in texts.items() if text}


def fill_from_headers(studies: Mapping[str, TableStudy], folder: Path, columns: Columns) -> None:
    """Take view, age and sex from the headers of DICOM images, where the table has no such column."""
    absent = [kind for kind in ("view", "age", "sex") if columns.get(kind) is None]
    named = [(study, number, name) for study in studies.values() for number, name in enumerate(study.images)]
    files = [file for file in named if absent and may_be_dicom(file[2])]
    with bar(total=len(files), title="DICOM headers", unit="file", delay_s=1) as shown_files:
        for study, number, name in files:
            tags = tags_of(folder / name)
            if "view" in absent:
                study.views[number] = position_of(tags.get("ViewPosition", ""))
            for kind, tag in (("age", "PatientAge"), ("sex", "PatientSex")):
                if kind in absent and tags.get(tag):
                    study.context.setdefault(kind, tags[tag])
            shown_files.update()


def study_of(study: TableStudy) -> Study:
    """What the rows say about a study without a report, for a trained run; a cell that cannot be read is left out."""
    keys = context_of({study.id: study}).keys[study.id]
    views = study.views if any(study.views) else None
    entry = {**keys, "views": views, "indication": study.texts.get("context")}
    return with_context(Study(study.id, ("",) * len(study.images), ""), entry, "none")


def _read(context: TableContext, study: TableStudy, kind: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(study.context.get(kind, ""))
    except ValueError:
        context.unread[kind] += 1
        context.example = context.example or f"{shown(study.context[kind])} (study {shown(study.id)})"
        return None


def day_of(date: str, time: str) -> tuple[int, float | None]:
    """The day as a number, and the part of it that has passed; None if the time is unknown.

    Raises ValueError if the date is none of 20190131, 2019-01-31 (with or without a time) and 31.01.2019.
    """
    if match := _DAY.fullmatch(date):
        year, month, day, rest = match[1], match[3], match[4], match[5] or ""
        # A date column of Parquet has midnight as the time of every day.
        time = time or ("" if _MIDNIGHT.fullmatch(rest) else rest)
    elif match := _DAY_FIRST.fullmatch(date):
        day, month, year = match.groups()
    else:
        raise ValueError(f"{date} is no date")
    parts = _TIME.match(time)
    fraction = None
    if parts is not None:
        hours, minutes, seconds = parts.groups()[:3] if parts[1] else parts.groups()[3:]
        fraction = (int(hours) * 3600 + int(minutes) * 60 + float(seconds or 0)) / 86_400
    is_time = fraction is not None and fraction < 1
    return datetime.date(int(year), int(month), int(day)).toordinal(), fraction if is_time else None


def add_table_priors(
    splits: Mapping[str, Sequence[Plain]], context: TableContext, left_out: Sequence[tuple[TableStudy, str]]
) -> PriorCounts | None:
    """Give each entry the previous examination of its patient as prior; None if the table has no patients or dates.

    `left_out` are studies without an entry, with their reports: they are priors too, and are written out.
    """
    entries = [(split, entry) for split, some in splits.items() for entry in some if "subject_id" in entry]
    if not entries or not context.days:
        return None
    split_of = {entry["subject_id"]: split for split, entry in entries}
    others = [(study, report) for study, report in left_out if study.patient in split_of and (study.images or report)]
    timed = _timed(
        [
            *((entry["subject_id"], context.days.get(entry["id"])) for _, entry in entries),
            *((study.patient, context.days.get(study.id)) for study, _ in others),
        ]
    )
    examinations = [
        Examination(entry["subject_id"], split, at, [entry]) for (split, entry), at in zip(entries, timed, strict=False)
    ]
    examinations += [
        Examination(study.patient, split_of[study.patient], at, left_out=_written(study, report))
        for (study, report), at in zip(others, timed[len(entries) :], strict=True)
    ]
    return add_priors(examinations)


def _timed(days: Sequence[tuple[str, tuple[int, float | None] | None]]) -> list[float | None]:
    """The time of each examination in days; without the time of day where one of the same patient and day lacks it."""
    lacking = {(patient, day[0]) for patient, day in days if day is not None and day[1] is None}
    return [
        None if day is None else day[0] + (0 if (patient, day[0]) in lacking else day[1] or 0) for patient, day in days
    ]


def _written(study: TableStudy, report: str) -> Plain | None:
    views = {"views": study.views} if any(study.views) else {}
    return prior_left_out(study.id, {"image_path": study.images, **views}, report)


def prior_lines(counts: PriorCounts | None) -> list[str]:
    if counts is None:
        return []
    return [
        f"priors         of {counts.entries_with_prior:,} entries ({counts.written_out:,} priors are no entries); "
        f"{counts.time_unknown:,} studies have no date"
    ]


def recorded(counts: PriorCounts | None, context: TableContext) -> Plain:
    """The counts for the provenance."""
    unread = {"not_read": dict(sorted(context.unread.items()))} if context.unread else {}
    return unread | ({} if counts is None else {"priors": asdict(counts)})
