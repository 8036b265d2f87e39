"""Reports from a file, ours or made elsewhere: whatever is wrong with it is one message with file, line and fix.

No torch. `.jsonl` holds `{"id", "report"}` a line (ours with a header first, and references), `.csv` the columns id and
report, `.json` R2GenGPT's `{id: [report]}` with test_refs.json beside it.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2gen.data.annotation_file import unique_keys
from r2gen.errors import UserError, shown
from r2gen.evaluate.meteor import MOST_WORDS

MAX_BYTES = 2**30
MAX_CHARACTERS = 10_000  # of a report: METEOR takes 7 s where one sentence is repeated so long
R2GENGPT, R2GENGPT_REFERENCES = "test_result.json", "test_refs.json"
NO_TEXT = frozenset({"nan", "none", "null", "<na>"})  # how pandas and others write a missing report into a CSV


@dataclass(frozen=True)
class Reports:
    """Reports by study id, and what else the file says."""

    reports: dict[str, str]  # in files made elsewhere a line break is a space, since ROUGE-L splits at spaces only
    references: dict[str, str] | None  # None where the file has none, or not for every study
    header: dict[str, Any] | None = None  # what made them, in files of ours


def read_reports(path: Path) -> Reports:
    """Raises UserError naming file, line and fix where anything in the file is not as said above."""
    if path.is_dir():
        if not (path / R2GENGPT).is_file():
            raise UserError(f"{path} is neither a run folder (no run.json) nor R2GenGPT's (no {R2GENGPT})")
        path = path / R2GENGPT
    readers = {".jsonl": _jsonl, ".csv": _csv, ".json": _r2gengpt}
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{path}: reports are read from a run folder, .jsonl ({{id, report}} a line), .csv (id,report) "
            f"or R2GenGPT's {R2GENGPT}: rename or convert the file"
        )
    found = readers[path.suffix.lower()](path)
    if not found.reports:
        raise UserError(f"{path} holds no report: write one {{id, report}} a study")
    return found if found.header is not None else replace(found, reports=_on_one_line(found.reports))


def _on_one_line(reports: dict[str, str]) -> dict[str, str]:
    return {id: " ".join(report.splitlines()) for id, report in reports.items()}


def _jsonl(path: Path) -> Reports:
    reports, references, header = _Texts(path), dict[str, str](), None
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        row = _parsed(path, line, number)
        if not isinstance(row, dict):
            raise UserError(f'{path}, line {number}: {row!r:.40} is no object: write {{"id": ..., "report": ...}}')
        if "header" in row and not reports.texts and header is None:
            header = row["header"] if isinstance(row["header"], dict) else {}
            continue
        for key in ("id", "report"):
            if key not in row:
                raise UserError(
                    f'{path}, line {number} has no "{key}" but {shown(", ".join(row))}: every line needs '
                    '"id" and "report"'
                )
        id = reports.add(row["id"], row["report"], number)
        if isinstance(row.get("reference"), str):
            references[id] = row["reference"]
    return Reports(reports.texts, references if len(references) == len(reports.texts) else None, header)


def _csv(path: Path) -> Reports:
    reports = _Texts(path)
    rows = _csv_rows(path)
    _, columns = next(rows, (1, []))
    columns = [column.strip() for column in columns]
    for column in ("id", "report"):
        if columns.count(column) != 1:
            seen = shown(", ".join(columns)) or "nothing"
            raise UserError(
                f'{path}, line 1: {columns.count(column)} columns "{column}" among {seen}: the first line '
                "must be id,report, with commas (other columns are not read)"
            )
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(columns):
            raise UserError(
                f"{path}, line {number} has {len(row)} fields instead of {len(columns)}: put a report with "
                'a comma or a line break into quotes ("), and double the quotes in it'
            )
        id, report = row[columns.index("id")], row[columns.index("report")]
        if report.strip().lower() in NO_TEXT:
            raise UserError(
                f'{path}, line {number} (id {shown(id)}): "{report.strip()}" is a missing value, no '
                "report: leave the field empty where a system wrote nothing"
            )
        reports.add(id, report, number)
    return Reports(reports.texts, None)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line it starts at."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fix = "shorten it" if "limit" in str(error) else 'close every quote ("), and double the quotes in a report'
            raise UserError(f"{path}, line {line}: {error}: {fix}") from error
        yield line, row
        line = reader.line_num + 1


def _r2gengpt(path: Path) -> Reports:
    beside = path.with_name(R2GENGPT_REFERENCES)
    if path.name == R2GENGPT_REFERENCES:
        raise UserError(f"{path} holds references: name the reports, {path.with_name(R2GENGPT)}")
    references = _by_id(beside) if beside.is_file() else None
    reports = _by_id(path)
    if references is not None and references.keys() != reports.keys():
        only = sorted(reports.keys() ^ references.keys())
        raise UserError(
            f"{path} and {beside.name} beside it have different ids (such as {shown(only[0])}): both come "
            "from one test of R2GenGPT; remove the one that does not belong"
        )
    return Reports(reports, references)


def _by_id(path: Path) -> dict[str, str]:
    """R2GenGPT's file: an object of id to a list of one text, or to a text."""
    content = _parsed(path, _text(path), None)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, no object {{id: [report]}} as R2GenGPT writes it: "
            'write {"id", "report"} a line into a .jsonl'
        )
    reports = _Texts(path)
    for id, given in content.items():
        if isinstance(given, list) and len(given) != 1:
            raise UserError(f"{path} (id {shown(id)}) has {len(given)} texts: leave one")
        reports.add(id, given[0] if isinstance(given, list) else given, None)
    return reports.texts


class _Texts:
    """Texts by id; what is no id or no text, or comes twice, is refused with its line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, str] = {}
        self.lines: dict[str, int | None] = {}

    def add(self, id: object, text: object, line: int | None) -> str:
        """Gives the id as it is kept: numbers as text."""
        place = f"{self.path}, line {line}" if line is not None else str(self.path)
        if isinstance(id, bool) or not isinstance(id, str | int) or not str(id).strip():
            raise UserError(f"{place}: {id!r:.40} is no id: give the study's id as a text")
        id = str(id).strip()
        place = f"{place} (id {shown(id)})"
        if id in self.texts:
            before = f" and in line {self.lines[id]}" if self.lines[id] is not None else ""
            raise UserError(f"{place}: the id stands here{before}: leave one report a study")
        if not isinstance(text, str):
            raise UserError(f'{place}: the report {text!r:.40} is no text: write "" where a system wrote nothing')
        if len(text) > MAX_CHARACTERS or len(text.split()) > MOST_WORDS:
            raise UserError(
                f"{place}: a report of {len(text):,} characters; at most {MAX_CHARACTERS:,}, and "
                f"{MOST_WORDS:,} words, are scored: is it one report? cut it"
            )
        if any("\ud800" <= sign <= "\udfff" for sign in id + text):
            raise UserError(
                f"{place} holds a half of a surrogate pair (\\ud800 to \\udfff), which is no character: correct it"
            )
        self.texts[id], self.lines[id] = text, line
        return id


def _text(path: Path) -> str:
    """The file as text. A byte order mark of UTF-8 is left out; other encodings are refused."""
    try:
        if not path.is_file():
            raise UserError(f"{path} does not exist: name a run folder or a file of reports")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{path} has {size / 2**30:.1f} GiB; reports of one split take at most 1: is this the right file?"
            )
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): name another file") from error
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw
    hint = " (it looks like UTF-16)" if utf16 else ""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is no UTF-8{hint}: save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: a zero byte is no text{hint}: save the file as UTF-8")
    return text


def _parsed(path: Path, text: str, line: int | None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        place = error.lineno if line is None else line
        fix = "write one whole object a line" if line is not None else "write {id: [report]}"
        raise UserError(f"{path}, line {place}, column {error.colno}: no JSON ({error.msg}): {fix}") from error
    except (ValueError, RecursionError) as error:
        place_named = f"{path}, line {line}" if line is not None else str(path)
        cause = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{place_named}: {cause}: correct it") from error
