"""Files that never end or never begin: FIFOs, sockets, disks, /dev/zero. To open one would hang a command.

They may be anywhere in a data set, a checkpoint or a run folder that comes from elsewhere.
"""

import os
import stat
import sys
from pathlib import Path
from typing import Any

from r2gen.errors import UserError, shown

ENDLESS = tuple(os.makedev(1, number) for number in (5, 7, 8, 9))  # zero, full, random and urandom of Linux


def refuse_special_files() -> None:
    """From now on, let this process raise UserError where Python opens such a file by its name."""
    sys.addaudithook(_refuse_open)


def refuse_special(file: str | bytes | Path, *, option: str | None = None) -> None:
    """Raise UserError if the file is special. For libraries that open files themselves, such as safetensors."""
    kind = _kind(file)
    if kind is not None:
        name = shown(os.fsdecode(file))
        raise UserError(f"{name if option is None else f'{option}={name}'} is {kind}: give a regular file")


def _refuse_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | Path):
        refuse_special(arguments[0])


def _kind(file: str | bytes | Path) -> str | None:
    try:
        status = os.stat(file)  # noqa: PTH116  not a Path in a hook: fewer calls
    except (OSError, ValueError):
        return None
    mode = status.st_mode
    if stat.S_ISFIFO(mode):
        return "a FIFO (named pipe)"
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and status.st_rdev in ENDLESS):
        return "a device"
    return None
