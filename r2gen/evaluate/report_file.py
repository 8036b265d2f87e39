"""The file of task=predict: one row per study, as CSV or JSON lines, written while the reports are generated.

A row has id, report, findings, images, error and made_by, which says which checkpoint and decoding wrote it. Rows are
appended whole, so that a command that was killed resumes; compare reads the file (`runs=[name=reports.csv]`).
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from r2gen.errors import UserError, shown
from r2gen.evaluate.labeler import Status, label_report
from r2gen.pages.csv_text import inert, restored
from r2gen.runs.files import append, check_file, check_writable, write_whole
from r2gen.runs.untrusted import parse_json, read_text, reason

SUFFIXES = (".csv", ".jsonl")
MANY = "; "  # separates findings and images in a CSV


@dataclass(frozen=True)
class ReportRow:
    """A study's report, or the error that it has instead of one."""

    id: str
    report: str
    findings: Sequence[str]  # the CheXpert observations that the report states or suspects
    images: Sequence[str]
    error: str
    made_by: str


COLUMNS = tuple(spec.name for spec in fields(ReportRow))


def findings_in(report: str) -> list[str]:
    """The observations that a report states; `?` follows those that it only suspects."""
    labels = label_report(report).status
    return [
        name + "?" * (status is Status.UNCERTAIN) for name, status in labels.items() if status is not Status.NEGATIVE
    ]


class ReportFile:
    """Reads what a file already has, and appends to it. Several processes may append."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_csv = path.suffix.lower() == ".csv"

    def check(self) -> None:
        """Raise UserError if the file cannot be written, or is another one, which is never replaced."""
        if self.path.suffix.lower() not in SUFFIXES:
            raise UserError(f"out={self.path}: give a file whose name ends in {' or '.join(SUFFIXES)}.")
        check_file(self.path)
        try:
            check_writable(self.path.parent)
        except OSError as error:
            raise UserError(f"out={self.path} cannot be written: {error.strerror}. Give another file.") from error
        if self.path.exists():
            self._rows()

    def start(self, *, made_by: str, fresh: bool) -> set[str]:
        """Make the file ready, and return the ids of the studies whose report it has.

        Rows with an error, and a row that a killed command left incomplete, are removed: these studies are tried
        again. Raises UserError if rows were made by another checkpoint or decoding, unless `fresh` replaces them.
        """
        rows = [] if fresh or not self.path.exists() else self._rows()
        for row in rows:
            if row.made_by != made_by:
                raise UserError(
                    f"out={self.path} has reports of another checkpoint or decoding ({shown(row.made_by)}, this "
                    f"command: {made_by}). Give another file, or fresh=true to replace it."
                )
        rows = [row for row in rows if not row.error]
        head = _csv_line(COLUMNS) if self.is_csv else ""
        write_whole(self.path, head + "".join(map(self._line, rows)))
        return {row.id for row in rows}

    def add(self, row: ReportRow) -> None:
        append(self.path, self._line(row).encode())

    def _line(self, row: ReportRow) -> str:
        if not self.is_csv:
            return json.dumps(asdict(row), ensure_ascii=False) + "\n"
        values = {**asdict(row), "findings": MANY.join(row.findings), "images": MANY.join(row.images)}
        return _csv_line([str(inert(" ".join(str(values[name]).split("\n")))) for name in COLUMNS])

    def _rows(self) -> list[ReportRow]:
        """The complete rows of the file."""
        try:
            text = read_text(self.path)
            whole = text[: text.rfind("\n") + 1]
            return list(self._csv_rows(whole) if self.is_csv else self._json_rows(whole))
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise UserError(
                f"out={self.path} is not a file of task=predict ({reason(error)}). Give another file."
            ) from error

    @staticmethod
    def _csv_rows(text: str) -> Iterator[ReportRow]:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if text and tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        for cells in reader:
            row: dict[str, Any] = {name: restored(cells[name]) for name in COLUMNS}
            row |= {name: [item for item in row[name].split(MANY) if item] for name in ("findings", "images")}
            yield ReportRow(**row)

    @staticmethod
    def _json_rows(text: str) -> Iterator[ReportRow]:
        for line in text.split("\n")[:-1]:
            yield ReportRow(**parse_json(line))


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
