"""Reads a file of reports, of this or of another program; every error names file, line and fix.

`.jsonl` has `{"id", "report"}` per line (a predictions file also a header line, and references), `.csv` the columns id
and report, `.json` R2GenGPT's `{id: [report]}`, with test_refs.json next to it.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import unique_keys
from r2gen.errors import UserError, shown
from r2gen.evaluate.meteor import MOST_WORDS
from r2gen.runs.untrusted import parse_json

MAX_BYTES = 2**30
MAX_CHARACTERS = 10_000  # of a report: METEOR needs 7 s for one sentence repeated to this length
R2GENGPT, R2GENGPT_REFERENCES = "test_result.json", "test_refs.json"
MISSING = frozenset({"nan", "none", "null", "<na>"})  # pandas and others write a missing report so into a CSV


@dataclass(frozen=True)
class Reports:
    """The content of a file of reports, by study id."""

    reports: dict[str, str]
    references: dict[str, str] | None  # None unless the file has one for every study
    header: Plain | None = None  # of a predictions file: what made the reports


def read_reports(path: Path) -> Reports:
    """The content of a file, or of R2GenGPT's folder. Raises UserError naming file, line and fix of the first error."""
    if path.is_dir():
        if not (path / R2GENGPT).is_file():
            raise UserError(
                f"{path}: neither a run folder (no run.json) nor R2GenGPT's (no {R2GENGPT}). Give another folder."
            )
        path = path / R2GENGPT
    readers = {".jsonl": _jsonl, ".csv": _csv, ".json": _r2gengpt}
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{path}: not a file of reports. Give a run folder, .jsonl ({{id, report}} per line), .csv (id,report) or "
            f"R2GenGPT's {R2GENGPT}."
        )
    content = readers[path.suffix.lower()](path)
    if not content.reports:
        raise UserError(f"{path}: contains no report. Write one for each study.")
    # ROUGE-L splits words at spaces only. Reports of a run keep their line breaks, with which they were scored.
    return content if content.header is not None else replace(content, reports=_on_one_line(content.reports))


def _on_one_line(reports: dict[str, str]) -> dict[str, str]:
    return {id: " ".join(report.splitlines()) for id, report in reports.items()}


def _jsonl(path: Path) -> Reports:
    reports, references, header = _Texts(path), dict[str, str](), None
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        item = _parsed(path, line, number)
        if not isinstance(item, dict):
            raise UserError(f'{path}, line {number}: {item!r:.40} is not an object. Write {{"id": ..., "report": ...}}')
        if "header" in item and not reports.texts and header is None:
            header = item["header"] if isinstance(item["header"], dict) else {}
            continue
        for key in ("id", "report"):
            if key not in item:
                raise UserError(
                    f'{path}, line {number}: "{key}" is missing; there is {shown(", ".join(item)) or "nothing"}. '
                    'Write "id" and "report" into every line.'
                )
        id = reports.add(item["id"], item["report"], number)
        if isinstance(item.get("reference"), str):
            references[id] = item["reference"]
    return Reports(reports.texts, references if len(references) == len(reports.texts) else None, header)


def _csv(path: Path) -> Reports:
    reports = _Texts(path)
    rows = _csv_rows(path)
    _, columns = next(rows, (1, []))
    columns = [column.strip() for column in columns]
    for column in ("id", "report"):
        if columns.count(column) != 1:
            available = shown(", ".join(columns)) or "nothing"
            raise UserError(
                f'{path}, line 1: {columns.count(column)} columns named "{column}" in {available}. Write '
                "id,report into the first line, separated by commas (other columns are ignored)."
            )
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(columns):
            raise UserError(
                f"{path}, line {number}: {len(row)} fields instead of {len(columns)}. Enclose a report that has a "
                'comma or a line break in quotes ("), and double the quotes inside it.'
            )
        id, report = row[columns.index("id")], row[columns.index("report")]
        if report.strip().lower() in MISSING:
            raise UserError(
                f'{path}, line {number} (id {shown(id)}): "{report.strip()}" is a missing value, not a report. '
                "Leave the field empty if the system wrote nothing."
            )
        reports.add(id, report, number)
    return Reports(reports.texts, None)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            too_long = "limit" in str(error)
            fix = "Shorten the field." if too_long else 'Close every quote ("), and double the quotes in a report.'
            raise UserError(f"{path}, line {line}: {error}. {fix}") from error
        yield line, row
        line = reader.line_num + 1


def _r2gengpt(path: Path) -> Reports:
    references_file = path.with_name(R2GENGPT_REFERENCES)
    if path == references_file:
        raise UserError(f"{path}: contains references. Give the reports, {path.with_name(R2GENGPT)}")
    references = _by_id(references_file) if references_file.is_file() else None
    reports = _by_id(path)
    if references is not None and references.keys() != reports.keys():
        only = sorted(reports.keys() ^ references.keys())
        raise UserError(
            f"{path}: its ids differ from those of {references_file.name} (such as {shown(only[0])}). Keep two files "
            "of the same test of R2GenGPT."
        )
    return Reports(reports, references)


def _by_id(path: Path) -> dict[str, str]:
    """The texts of a file of R2GenGPT: an object of id to a list of one text, or to a text."""
    content = _parsed(path, _text(path), None)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: contains a {type(content).__name__}, not an object {{id: [report]}} as R2GenGPT writes it. "
            'Write {"id": ..., "report": ...} per line into a .jsonl file.'
        )
    reports = _Texts(path)
    for id, given in content.items():
        if isinstance(given, list) and len(given) != 1:
            raise UserError(f"{path} (id {shown(id)}): {len(given)} texts. Keep one.")
        reports.add(id, given[0] if isinstance(given, list) else given, None)
    return reports.texts


class _Texts:
    """Texts by id. `add` refuses an invalid or repeated id and an invalid text, naming the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, str] = {}
        self.lines: dict[str, int | None] = {}

    def add(self, id: object, text: object, line: int | None) -> str:
        """Add a text and return its id as a text."""
        location = f"{self.path}, line {line}" if line is not None else str(self.path)
        if isinstance(id, bool) or not isinstance(id, str | int) or not str(id).strip():
            raise UserError(f"{location}: {id!r:.40} is not an id. Write the id of the study as a text.")
        id = str(id).strip()
        location = f"{location} (id {shown(id)})"
        if id in self.texts:
            before = f" after line {self.lines[id]}" if self.lines[id] is not None else ""
            raise UserError(f"{location}: the id is repeated{before}. Keep one report for each study.")
        if not isinstance(text, str):
            raise UserError(f'{location}: the report {text!r:.40} is not a text. Write "" if the system wrote nothing.')
        if len(text) > MAX_CHARACTERS or len(text.split()) > MOST_WORDS:
            raise UserError(
                f"{location}: the report has {len(text):,} characters; at most {MAX_CHARACTERS:,} characters and "
                f"{MOST_WORDS:,} words are scored. Shorten it, or split it if it is several reports."
            )
        if any("\ud800" <= character <= "\udfff" for character in id + text):
            raise UserError(
                f"{location}: half of a surrogate pair (\\ud800 to \\udfff), which is not a character. Remove it."
            )
        self.texts[id], self.lines[id] = text, line
        return id


def _text(path: Path) -> str:
    """The file as text, without a UTF-8 byte order mark. Other encodings are refused."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: the file does not exist. Give a run folder or a file of reports.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{path}: {size / 2**30:.1f} GiB is more than the 1 GiB that the reports of one split may have. "
                "Give the right file."
            )
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Give another file.") from error
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw
    hint = " (it looks like UTF-16)" if utf16 else ""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8{hint}. Save the file as UTF-8."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: a zero byte is not text{hint}. Save the file as UTF-8.")
    return text


def _parsed(path: Path, text: str, line: int | None) -> Any:
    try:
        return parse_json(text, pairs=unique_keys, any_text=True)
    except json.JSONDecodeError as error:
        number = error.lineno if line is None else line
        fix = "Write one whole object per line." if line is not None else "Write {id: [report]}."
        raise UserError(f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}). {fix}") from error
    except ValueError as error:
        location = f"{path}, line {line}" if line is not None else str(path)
        raise UserError(f"{location}: {error}. Correct the file.") from error
