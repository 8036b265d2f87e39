"""The bytes of an annotation as Python objects, or one message that says where they are wrong. Imports no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2gen.data.reports import SPLITS
from r2gen.errors import UserError, shown

MAX_BYTES = 4 * 2**30  # MIMIC-CXR whole takes a fifteenth of it
NAMED_IN_MESSAGE = 5


def read_splits(file: Path) -> dict[str, list[Any]]:
    """Split to its entries, which may be anything. Raises UserError with the line and column, or byte, of a fault."""
    content = _parsed(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}, not an object of train, val and test")
    for split, entries in content.items():
        if split not in SPLITS:
            raise UserError(f'{file} has a split "{split[:40]}": known are {", ".join(SPLITS)}')
        if not isinstance(entries, list):
            raise UserError(f'{file}: "{split}" is no list of studies')
    return content


def refuse(head: str, faults: Sequence[str], *, advice: str = "") -> None:
    """Raise UserError where there are faults, naming the first five and their number."""
    if not faults:
        return
    if len(faults) == 1:
        raise UserError(f"{head}: {faults[0]}{advice}")
    named = "\n  ".join(faults[:NAMED_IN_MESSAGE])
    more = f"\n  and {len(faults) - NAMED_IN_MESSAGE:,} more" if len(faults) > NAMED_IN_MESSAGE else ""
    raise UserError(f"{head}: {len(faults):,} faults\n  {named}{more}{advice}")


def _parsed(file: Path) -> Any:
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{file} has {size / 2**30:.1f} GiB, an annotation at most {MAX_BYTES / 2**30:.0f}: "
                "is this the right file? set data.annotation"
            )
        raw = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{file} cannot be read ({reason}): set data.annotation to the file's name") from error
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        hint = " (it looks like UTF-16)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(
            f"{file}, line {line}, byte {error.start + 1} of the file: 0x{raw[error.start]:02x} is no "
            f"UTF-8{hint}: save the file as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{file} is nested too deep: an annotation is an object of three lists of studies") from error
    except KeyTwice as error:
        where = f" (id {error.found['id']!r:.60})" if "id" in error.found else ""
        raise UserError(f'{file} is no annotation: one of its objects{where} has "{error.key[:40]}" twice') from error
    except (ValueError, MemoryError) as error:
        raise UserError(f"{file} is no annotation: {error or 'it does not fit into memory'}") from error


class KeyTwice(ValueError):
    """A JSON object has a key twice; readers drop the first silently."""

    def __init__(self, key: str, found: dict[str, Any]) -> None:
        super().__init__(f'"{shown(key)}" stands twice')
        self.key, self.found = key, found


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """json.loads' object_pairs_hook. Raises KeyTwice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise KeyTwice(next(key for key in keys if keys.count(key) > 1), found)
    return found
