"""Write files atomically, take folders, lock files, and read JSON lines."""

import contextlib
import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import IO

from r2gen.config.plain import Plain
from r2gen.errors import UserError

PARTIAL = ".partial-"  # begins the name of a file that is being written; a killed process leaves it behind


def absolute(path: str) -> str:
    """The absolute path, without `..` and `~`. Symbolic links stay, which Path.resolve would replace."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def take_folder(path: Path, *, option: str, known_by: str, ours: Collection[str] = ()) -> None:
    """Make a folder that only its owner can read, or take one that is empty or has the file `known_by`.

    `ours` are files that a killed command may have left in it. Raises UserError where it holds other files.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        strangers = sorted(item.name for item in path.iterdir() if item.name not in ours and item.name[0] != ".")
    except OSError as error:
        raise UserError(f"{option}={path} cannot be used: {error.strerror}") from error
    if (path / known_by).is_file():
        return  # keep a mode that the user has relaxed
    if strangers:
        raise UserError(
            f"{option}={path} holds other files ({strangers[0]}, ...) and no {known_by}: give an empty or a new folder"
        )
    with contextlib.suppress(PermissionError):  # another user's folder may be writable all the same
        path.chmod(0o700)


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file atomically: under a temporary name, then renamed, so that readers see the old or the new file.

    The umask applies to `mode`.
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
        temporary.unlink(missing_ok=True)  # on a full disk its space is needed
        raise


def take_lock(file: IO[str]) -> bool:
    """Lock a file until all processes that inherit it have closed it. False where another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether a process has locked the file; False where there is none, or it cannot be opened."""
    try:
        with path.open(encoding="utf-8") as file:
            return not take_lock(file)
    except OSError:
        return False


def read_tail(path: Path, most: int) -> bytes:
    """The last `most` bytes of a file, or all of a shorter one."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read()


def read_jsonl(path: Path) -> list[Plain]:
    """The objects of a .jsonl file; a last line torn by a kill is left out, any other broken line is a UserError."""
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()]
    rows: list[Plain] = []
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
