"""The rows of a table of studies: CSV, TSV, JSON lines, Parquet, or a folder that Hugging Face `datasets` saved.

Rows are read one after another, so that a table may be larger than the memory. A fault names the file and the row.
"""

import codecs
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import DuplicateKey, unique_keys
from r2gen.data.prepared_files import sha256_of_file
from r2gen.errors import Code, UserError, installing, shown
from r2gen.runs.special_files import refuse_special
from r2gen.runs.untrusted import parse_json, read_json

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SPLIT_OF_FOLDER = "split"  # the column that a saved DatasetDict gets, from the names of its parts
_LONGEST_LINE = 2**26  # characters of a JSON line
_SNIFFED_LINES = 100  # of JSON lines, whose keys are the columns
_AT_ONCE = 32  # rows of an Arrow batch that are Python objects at a time: they may contain images


@dataclass(frozen=True)
class Table:
    """Columns, and rows with the numbers that messages name; `rows()` reads the file again each time."""

    path: Path
    columns: Sequence[str]
    rows: Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]
    unit: str = "row"  # "line" for JSON lines

    def at(self, number: int) -> str:
        return f"{self.unit} {number}"


def open_table(path: Path, *, encoding: str = "utf-8") -> Table:
    """The table in a file or folder. Row 1 of a CSV is its header, as in a spreadsheet.

    Raises UserError naming the file, the row or line, and the fix.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. Give the table of studies (CSV, TSV, JSONL or Parquet).")
    refuse_special(path)
    if path.is_dir():
        return _saved_dataset(path)
    ends = [suffix.lower() for suffix in path.suffixes[-2:]]
    kind = ends[0] if len(ends) == 2 and ends[1] == ".gz" else ends[-1] if ends else ""
    if kind == ".parquet":
        return _parquet(path)
    if kind not in SUFFIXES:
        fix = "Save it as CSV UTF-8." if kind in (".xlsx", ".xls", ".ods") else f"Give {', '.join(SUFFIXES)}."
        raise UserError(f"{path}: {kind or 'a file without suffix'} is not read. {fix}")
    _check_encoding(path, encoding)
    return _json_lines(path) if kind == ".jsonl" else _csv(path, encoding=encoding, tab=kind == ".tsv")


def sha256_of(table: Table) -> str:
    """The SHA-256 of a table's file; for a folder, that of the SHA-256 of its files in the order of their names."""
    if table.path.is_file():
        return sha256_of_file(table.path)
    files = sorted(table.path.rglob("*.arrow"))
    return hashlib.sha256(b"".join(bytes.fromhex(sha256_of_file(file)) for file in files)).hexdigest()


def text_of(value: Any) -> str:
    """A cell as text without white space at both ends; empty if it holds a missing value, as pandas writes it."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():  # ids that pandas has read as numbers
        value = int(value)
    text = str(value).strip()
    return "" if text.lower() in ("nan", "none", "null", "<na>", "n/a") else text


# Texts


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _check_encoding(path: Path, encoding: str) -> None:
    """Raise UserError naming the line of the first byte that the encoding does not have."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise UserError(f"prepare.encoding={shown(encoding)} is unknown. Use utf-8, cp1252 or utf-16.") from error
    line = 1
    try:
        with _opened(path) as file:
            head = file.read(4)
            if not head:
                raise UserError(f"{path} is empty.")
            if head[:2] in (b"\xff\xfe", b"\xfe\xff") and encoding.replace("_", "-").lower() == "utf-8":
                raise UserError(f"{path} is UTF-16, as Excel's Unicode text. Add prepare.encoding=utf-16.")
            file.seek(0)
            for block in iter(lambda: file.read(2**20), b""):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    line += error.object.count(b"\n", 0, error.start)
                    bad = error.object[error.start]
                    fix = (
                        "Add prepare.encoding=cp1252 (Windows), or save the file as UTF-8."
                        if encoding.lower().startswith("utf")
                        else "Save the file as UTF-8, or set prepare.encoding to its encoding."
                    )
                    raise UserError(
                        f"{path}, line {line}: byte 0x{bad:02x} is not {encoding.upper()}. {fix}"
                    ) from error
                line += block.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {line}: the file ends within a character. Save it again as UTF-8.") from error
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _text(path: Path, encoding: str) -> IO[str]:
    encoding = "utf-8-sig" if encoding.replace("_", "-").lower() in ("utf-8", "utf8") else encoding
    return io.TextIOWrapper(_opened(path), encoding=encoding, newline="")


def _csv(path: Path, *, encoding: str, tab: bool) -> Table:
    """Fields are separated by the character of , ; and tab that the header has most of."""
    with _text(path, encoding) as file:
        first = file.readline(2**16)
        named = first.lower().startswith("sep=")  # a line for Excel
        head = file.readline(2**16) if named else first
    delimiter = "\t" if tab else max(",;\t", key=head.count)

    def records() -> Iterator[tuple[int, list[str]]]:
        with _text(path, encoding) as file:
            if named:
                file.readline()
            reader, number = csv.reader(file, delimiter=delimiter, strict=True), 1 + named
            while True:
                try:
                    record = next(reader, None)
                except csv.Error as error:
                    raise UserError(
                        f'{path}, row {number}: {error}. Close every quote ("), and double the quotes in a report.'
                    ) from error
                if record is None:
                    return
                yield number, record
                number += 1

    _, header = next(records(), (1, []))
    columns = [name.strip() for name in header]
    _check_columns(path, columns)

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, record in islice(records(), 1, None):
            if not any(record):
                continue
            if len(record) != len(columns):
                raise UserError(
                    f"{path}, row {number}: {len(record)} fields instead of {len(columns)}. Enclose a report that "
                    f'has "{delimiter}" or a line break in quotes (").'
                )
            yield number, dict(zip(columns, record, strict=True))

    return Table(path, columns, rows)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise UserError(f"{path}, row 1: two columns are named {shown(twice[0])}. Rename one of them.")
    if not any(columns):
        raise UserError(f"{path}, row 1: there are no names of columns. Write them into the first row.")


def _json_lines(path: Path) -> Table:
    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        with _text(path, "utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), start=1):
                if len(line) == _LONGEST_LINE:
                    raise UserError(f"{path}, line {number} is longer than 64 MiB. Write one object per line.")
                if line.strip():
                    yield number, _object(path, number, line)

    columns = list(dict.fromkeys(key for _, row in islice(rows(), _SNIFFED_LINES) for key in row))
    if not columns:
        raise UserError(f"{path} contains no study.")
    return Table(path, columns, rows, unit="line")


def _object(path: Path, number: int, line: str) -> Plain:
    try:
        value = parse_json(line, pairs=unique_keys)
    except DuplicateKey as error:
        raise UserError(f"{path}, line {number}: {error}. Remove one.") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}). Write one whole object per line."
        ) from error
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}. Correct the line.") from error
    if not isinstance(value, dict):
        raise UserError(f'{path}, line {number}: {value!r:.40} is not an object {{"image": ..., "report": ...}}.')
    return value


# Arrow


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(
            f"{path} needs the package pyarrow: {installing('pyarrow')}", code=Code.PACKAGE_MISSING
        ) from error
    return pyarrow


def _parquet(path: Path) -> Table:
    _pyarrow(path)
    import pyarrow.parquet

    try:
        columns = list(pyarrow.parquet.read_schema(path).names)
    except Exception as error:  # pyarrow raises many types on damaged files
        raise _damaged(path, error) from error

    def batches() -> Iterator["pa.RecordBatch"]:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_AT_ONCE)

    return Table(path, columns, lambda: _arrow_rows(path, batches()))


def _saved_dataset(folder: Path) -> Table:
    """What `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    pyarrow = _pyarrow(folder)
    try:
        parts: dict[str | None, Path] = {None: folder}
        if (folder / "dataset_dict.json").is_file():
            parts = {name: folder / Path(name).name for name in read_json(folder / "dataset_dict.json")["splits"]}
        files = [
            (split, part / Path(item["filename"]).name)
            for split, part in parts.items()
            for item in read_json(part / "state.json")["_data_files"]
        ]
        for _, file in files:
            refuse_special(file)
        columns = list(pyarrow.ipc.open_stream(pyarrow.memory_map(str(files[0][1]))).schema.names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder} is not what datasets' save_to_disk wrote ({_reason(error)}). Give a table, or such a folder."
        ) from error
    of_folder = None not in parts and SPLIT_OF_FOLDER not in columns

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        number = 0
        for split, file in files:
            stream = pyarrow.ipc.open_stream(pyarrow.memory_map(str(file)))
            for _, row in _arrow_rows(file, iter(stream)):
                number += 1
                yield number, {**row, SPLIT_OF_FOLDER: split} if of_folder else row

    return Table(folder, [*columns, *([SPLIT_OF_FOLDER] if of_folder else [])], rows)


def _arrow_rows(path: Path, batches: Iterator["pa.RecordBatch"]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _AT_ONCE):
                for row in batch.slice(start, _AT_ONCE).to_pylist():
                    number += 1
                    yield number, row
    except UserError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's errors are ValueErrors
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({_reason(error)}): it is damaged, or not what its name says.")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
