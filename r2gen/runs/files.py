"""Files written whole, folders taken, JSON lines read."""

import contextlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from r2gen.errors import UserError

PARTIAL = ".partial-"  # how the name begins of what is being written; a kill leaves it


def absolute(path: str) -> str:
    """From where the user stands, without `..` and `~`; links stay links, as Path.resolve would not leave them."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def take_folder(path: Path, *, option: str, known_by: str, ours: Collection[str] = ()) -> None:
    """Make a folder that its owner alone can read, or take an empty one, or one of ours: that `known_by` lies in.

    `ours` may lie in a folder whose making was killed. Raises UserError where it holds other files.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        strangers = sorted(item.name for item in path.iterdir() if item.name not in ours and item.name[0] != ".")
    except OSError as error:
        raise UserError(f"{option}={path} cannot be used: {error.strerror}") from error
    if (path / known_by).is_file():
        return  # who opened it to others since meant to
    if strangers:
        raise UserError(
            f"{option}={path} holds other files ({strangers[0]}, ...) and no {known_by}: give an empty or a new folder"
        )
    with contextlib.suppress(PermissionError):  # somebody else's folder, which one may still be allowed to write in
        path.chmod(0o700)


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file under a temporary name, then rename it: readers see the old one or the new one.

    `mode` is what the umask leaves of it.
    """
    temporary = path.with_name(f"{PARTIAL}{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk its room is needed
        raise


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file; a last line torn by a kill is left out, any other broken line is a UserError."""
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{path}, line {number} is broken ({error}): remove that line") from None
        rows.append(row)
    return rows
