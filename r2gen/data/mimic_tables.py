"""MIMIC-CXR's tables: which images a study has, their views, and its official split. Imports no torch."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from r2gen.data.annotation_file import refuse
from r2gen.errors import UserError

_OUR_SPLIT = {"train": "train", "validate": "val", "test": "test"}
_ID = re.compile(r"[A-Za-z0-9-]+")  # what may become a file name


@dataclass(frozen=True)
class MimicImage:
    """One row of the tables."""

    dicom_id: str
    study_id: str
    subject_id: str
    split: str  # train, val or test
    view: str  # ViewPosition: AP, PA, LATERAL, LL, ...; empty where the table's is

    @property
    def path(self) -> str:
        """Below the image folder, without a suffix."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}/{self.dicom_id}"

    @property
    def report(self) -> str:
        """The study's report, below the folder of reports."""
        return f"p{self.subject_id[:2]}/p{self.subject_id}/s{self.study_id}.txt"


def images_of(root: Path) -> tuple[dict[str, list[MimicImage]], dict[str, str]]:
    """Study id to its images in the split table's order, and the SHA-256 of each table by its name.

    Raises UserError where a table is missing or broken, where the tables do not agree, or where a study or a patient
    stands in two splits.
    """
    splits, split_file, split_hash = _table(root, "split", ("dicom_id", "study_id", "subject_id", "split"))
    views, view_file, view_hash = _table(root, "metadata", ("dicom_id", "ViewPosition"))
    view_of = {row[0]: row[1].strip().upper() for _, row in views}
    images: dict[str, list[MimicImage]] = {}
    home: dict[tuple[str, str], str] = {}
    seen, faults = set[str](), list[str]()
    for number, (dicom_id, study_id, subject_id, split) in splits:
        where = f"line {number}"
        if not (
            _ID.fullmatch(dicom_id)
            and study_id.isascii()
            and study_id.isdigit()
            and subject_id.isascii()
            and subject_id.isdigit()
        ):
            faults.append(f"{where}: {dicom_id!r:.60}, {study_id!r:.20}, {subject_id!r:.20} are no ids")
        elif split not in _OUR_SPLIT:
            faults.append(f"{where}: split {split!r:.20} is none of {', '.join(_OUR_SPLIT)}")
        elif dicom_id in seen:
            faults.append(f"{where}: image {dicom_id} stands twice")
        elif dicom_id not in view_of:
            faults.append(f"{where}: image {dicom_id} is not in {view_file.name}")
        elif home.setdefault(("study", study_id), f"{subject_id} {split}") != f"{subject_id} {split}":
            faults.append(f"{where}: study {study_id} is in two splits, or of two patients")
        elif home.setdefault(("patient", subject_id), split) != split:
            faults.append(f"{where}: patient {subject_id} is in two splits")
        else:
            seen.add(dicom_id)
            image = MimicImage(dicom_id, study_id, subject_id, _OUR_SPLIT[split], view_of[dicom_id])
            images.setdefault(study_id, []).append(image)
    refuse(str(split_file), faults)
    return images, {split_file.name: split_hash, view_file.name: view_hash}


def _table(root: Path, kind: str, columns: tuple[str, ...]) -> tuple[list[tuple[int, list[str]]], Path, str]:
    """(line, the named columns) of each row of mimic-cxr-*-<kind>.csv or .csv.gz, the file, and its SHA-256."""
    found = sorted(file for end in (".csv.gz", ".csv") for file in root.glob(f"mimic-cxr-*-{kind}{end}"))
    if len(found) != 1:
        named = ", ".join(file.name for file in found) or "there is none"
        raise UserError(f"data.root={root} needs one mimic-cxr-2.0.0-{kind}.csv.gz: {named}")
    file = found[0]
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = next(reader, [])
        absent = [name for name in columns if name not in head]
        if absent:
            raise UserError(f"{file} has no column {', '.join(absent)}: it has {', '.join(head)[:200]}")
        places = [head.index(name) for name in columns]
        rows = []
        for row in reader:
            if row and len(row) != len(head):
                raise UserError(f"{file}, line {reader.line_num}: {len(row)} columns instead of {len(head)}")
            if row:
                rows.append((reader.line_num, [row[place] for place in places]))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read ({error}): fetch it again") from error
    return rows, file, hashlib.sha256(raw).hexdigest()
