"""An annotation file as Python objects; a fault gives one message with its position."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.reports import SPLITS
from r2gen.errors import UserError, shown
from r2gen.runs.placeholders import placeholder
from r2gen.runs.untrusted import parse_json, reason

OTHER_FORMATS = (".csv", ".tsv", ".xlsx", ".parquet", ".jsonl")
MAX_BYTES = 4 * 2**30  # fifteen times the annotation of all of MIMIC-CXR
NAMED_IN_MESSAGE = 5


def read_splits(file: Path) -> dict[str, list[Any]]:
    """Split to its unchecked entries. Raises UserError with the line and column, or byte, of a fault in the file."""
    content = _parsed(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} contains a {type(content).__name__}, not an object of train, val and test.")
    for split, entries in content.items():
        if split not in SPLITS:
            raise UserError(f'{file} has a split "{split[:40]}". Use {", ".join(SPLITS)}.')
        if not isinstance(entries, list):
            raise UserError(f'{file}: "{split}" is not a list of studies.')
    return content


def refuse(head: str, faults: Sequence[str], *, advice: str = "") -> None:
    """Raise UserError if there are faults, with the first five and their number."""
    if not faults:
        return
    if len(faults) == 1:
        raise UserError(f"{head}: {faults[0]}{advice}")
    named = "\n  ".join(faults[:NAMED_IN_MESSAGE])
    more = f"\n  and {len(faults) - NAMED_IN_MESSAGE:,} more" if len(faults) > NAMED_IN_MESSAGE else ""
    raise UserError(f"{head}: {len(faults):,} faults\n  {named}{more}{advice}")


def absent(folder: Path, name: str) -> UserError:
    """The error for a folder without its annotation, which names a file that may be one in another format."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    others = [file for file in files if file.suffix.lower() in (*OTHER_FORMATS, ".json")]
    fix = "Set data.root to the folder of the annotation and images."
    if others:
        json_file = others[0].suffix.lower() == ".json"
        fix = (
            f"There is {others[0].name}: set data.annotation={others[0].name}, or data.root to another folder."
            if json_file
            else f"There is {others[0].name}: {_conversion(others[0])}"
        )
    return UserError(f"data.root={folder}: there is no {name} in it. {fix}")


def _conversion(file: Path) -> str:
    if file.suffix.lower() == ".xlsx":
        return "save it as CSV UTF-8, then python run.py task=prepare data=csv prepare.table=FILE (docs/own-data.md)"
    return f"it becomes an annotation with python run.py task=prepare data=csv prepare.table={file} (docs/own-data.md)"


def _parsed(file: Path) -> Any:
    if file.suffix.lower() in OTHER_FORMATS:
        raise UserError(f"{file}: {_conversion(file)}")
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{file} has {size / 2**30:.1f} GiB; an annotation may have at most {MAX_BYTES / 2**30:.0f}. Set "
                "data.annotation to the right file."
            )
        raw = file.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read ({reason(error)}). Set data.annotation to the name of the file."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
        del raw  # as large as the text
        return parse_json(text, pairs=unique_keys, any_text=True)
    except UnicodeDecodeError as error:
        raw = error.object
        line = raw.count(b"\n", 0, error.start) + 1
        hint = " (it looks like UTF-16)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(
            f"{file}, line {line}, byte {error.start + 1} of the file: 0x{raw[error.start]:02x} is not "
            f"UTF-8{hint}. Save the file as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        if instead := placeholder(file):
            raise UserError(instead) from error
        if error.msg == "Extra data" and error.lineno > 1:
            raise UserError(f"{file} has one JSON value per line: {_conversion(file.with_suffix('.jsonl'))}") from error
        raise UserError(f"{file} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except DuplicateKey as error:
        where = f" (id {error.content['id']!r:.60})" if "id" in error.content else ""
        raise UserError(
            f'{file} is not an annotation: one of its objects{where} has "{error.key[:40]}" twice.'
        ) from error
    except (ValueError, MemoryError) as error:
        raise UserError(f"{file} is not an annotation: {error or 'it does not fit into memory'}") from error


class DuplicateKey(ValueError):
    """A key that a JSON object has twice; json.loads would drop the first value silently."""

    def __init__(self, key: str, content: Plain) -> None:
        super().__init__(f'"{shown(key)}" is given twice')
        self.key, self.content = key, content


def unique_keys(pairs: list[tuple[str, Any]]) -> Plain:
    """An object_pairs_hook for json.loads that raises DuplicateKey."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise DuplicateKey(next(key for key in keys if keys.count(key) > 1), content)
    return content
