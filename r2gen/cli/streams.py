"""The standard streams of a command and of its ranks: losing one loses its text, not the work."""

import contextlib
import io
import os
import sys
from typing import IO


def keep_streams() -> None:
    """Let output be lost without an error: to `| head`, to a closed terminal, to a log file on a full disk.

    Closed streams are opened on /dev/null. Otherwise the next file to be opened, such as a checkpoint, would have the
    number of standard output, and what other libraries print would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    sys.stdout, sys.stderr = _kept(1, sys.stdout), _kept(2, sys.stderr)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115


def _kept(number: int, before: IO[str] | None) -> io.TextIOWrapper:
    errors = getattr(before, "errors", None) or "backslashreplace"
    return io.TextIOWrapper(
        io.BufferedWriter(_Lossy(number, "w", closefd=False)),  # type: ignore[type-var]
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=errors,
        line_buffering=number == 2 or os.isatty(number),
    )


class _Lossy(io.FileIO):
    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        with contextlib.suppress(OSError):
            written = super().write(data)
            if written is not None:
                return written
        return len(data)
