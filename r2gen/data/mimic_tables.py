"""MIMIC-CXR's tables: the images of each study, their views and times, and the official split."""

import csv
import datetime
import gzip
import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from r2gen.data.annotation_file import refuse
from r2gen.data.prepared_files import one_file
from r2gen.errors import UserError

_OUR_SPLIT = {"train": "train", "validate": "val", "test": "test"}
_ID = re.compile(r"[A-Za-z0-9-]+")  # characters that are safe in a file name


@dataclass(frozen=True)
class MimicImage:
    """One image of the split table, with its view from the metadata table."""

    dicom_id: str
    study_id: str
    subject_id: str
    split: str  # train, val or test
    view: str  # ViewPosition: AP, PA, LATERAL, LL, ...; empty if the table's is
    taken: float | None = None  # StudyDate and StudyTime in days since any day; None if one of them is empty

    @property
    def path(self) -> str:
        """The path below the image folder, without a suffix."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}/{self.dicom_id}"

    @property
    def report(self) -> str:
        """The path of the study's report below the folder of reports."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}.txt"


def images_of(split_file: Path, metadata_file: Path) -> tuple[dict[str, list[MimicImage]], dict[str, str]]:
    """Study id to its images in the split table's order, and the SHA-256 of each table by its name.

    Raises UserError if a table cannot be read, if the tables disagree, or if a study or patient is in two splits.
    """
    lines, split_hash = _read_table(split_file, ("dicom_id", "study_id", "subject_id", "split"))
    columns = ("dicom_id", "ViewPosition", "StudyDate", "StudyTime")
    described, metadata_hash = _read_table(metadata_file, columns)
    view_of = {values[0]: values[1].strip().upper() for _, values in described}
    taken = _times(metadata_file, described)
    images: dict[str, list[MimicImage]] = {}
    home: dict[tuple[str, str], str] = {}
    seen, faults = set[str](), list[str]()
    for number, (dicom_id, study_id, subject_id, split) in lines:
        where = f"line {number}"
        if not (_ID.fullmatch(dicom_id) and _is_number(study_id) and _is_number(subject_id)):
            faults.append(f"{where}: {dicom_id!r:.60}, {study_id!r:.20}, {subject_id!r:.20} are not ids")
        elif split not in _OUR_SPLIT:
            faults.append(f"{where}: split {split!r:.20} is none of {', '.join(_OUR_SPLIT)}")
        elif dicom_id in seen:
            faults.append(f"{where}: image {dicom_id} is listed twice")
        elif dicom_id not in view_of:
            faults.append(f"{where}: image {dicom_id} is not in {metadata_file.name}")
        elif home.setdefault(("study", study_id), f"{subject_id} {split}") != f"{subject_id} {split}":
            faults.append(f"{where}: study {study_id} is in two splits, or of two patients")
        elif home.setdefault(("patient", subject_id), split) != split:
            faults.append(f"{where}: patient {subject_id} is in two splits")
        else:
            seen.add(dicom_id)
            image = MimicImage(dicom_id, study_id, subject_id, _OUR_SPLIT[split], view_of[dicom_id], taken[dicom_id])
            images.setdefault(study_id, []).append(image)
    refuse(str(split_file), faults)
    return images, {split_file.name: split_hash, metadata_file.name: metadata_hash}


def _times(file: Path, lines: list[tuple[int, list[str]]]) -> dict[str, float | None]:
    """Image to the time of its study, in days. Raises UserError with the lines whose date or time is none."""
    taken, faults = dict[str, float | None](), list[str]()
    for number, (dicom_id, _, date, time) in lines:
        try:
            taken[dicom_id] = days_of(date.strip(), time.strip())
        except ValueError:
            faults.append(
                f"line {number}: StudyDate {date!r:.20} and StudyTime {time!r:.20} are not like 21800506 and 213014.531"
            )
    refuse(str(file), faults)
    return taken


def days_of(date: str, time: str) -> float | None:
    """A date (yyyymmdd) and a time (hhmmss.f; its first zeros may be missing) in days; None if one is empty."""
    if not date or not time:
        return None
    hours, minutes = divmod(float(time), 10_000)
    minutes, seconds = divmod(minutes, 100)
    if not (_is_number(date) and len(date) == 8 and 0 <= hours < 24 and minutes < 60 and seconds < 61):
        raise ValueError(date, time)
    day = datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
    return day.toordinal() + (hours * 3600 + minutes * 60 + seconds) / 86_400


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def find_table(root: Path, kind: str) -> Path:
    """The file mimic-cxr-*-<kind>.csv or .csv.gz in `root`. Raises UserError unless there is exactly one."""
    patterns = (f"mimic-cxr-*-{kind}.csv.gz", f"mimic-cxr-*-{kind}.csv")
    folder = "MIMIC-CXR-JPG; any other annotation is trained on as it is"
    return one_file(root, *patterns, named=f"mimic-cxr-2.0.0-{kind}.csv.gz", folder=folder)


def _read_table(file: Path, columns: tuple[str, ...]) -> tuple[list[tuple[int, list[str]]], str]:
    """(line number, values of the named columns) of each line, and the SHA-256 of the file."""
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = next(reader, [])
        absent = [name for name in columns if name not in head]
        if absent:
            raise UserError(f"{file} has no column {', '.join(absent)}: its columns are {', '.join(head)[:200]}")
        indices = [head.index(name) for name in columns]
        lines = []
        for values in reader:
            if values and len(values) != len(head):
                raise UserError(f"{file}, line {reader.line_num}: {len(values)} columns instead of {len(head)}")
            if values:
                lines.append((reader.line_num, [values[index] for index in indices]))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}). Download it again.") from error
    return lines, hashlib.sha256(raw).hexdigest()
