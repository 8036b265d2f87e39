"""A file cannot be written: such an error as a UserError that names the disk, the quota, the limit or the folder."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from r2gen.errors import Code, UserError

# Libraries that raise errors of their own (safetensors, torch.save) are recognised by their text.
TEXTS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "PytorchStreamWriter failed": None,
    "inline_container.cc": None,
}
MIB = 2**20


def out_of_disk(error: BaseException, folder: Path | str, *, need_bytes: int | None = None) -> UserError | None:
    """None where no limit was reached. `need_bytes` is the size of what was being written, if it is known."""
    numbers = _errnos(error)
    if not Path(folder).is_dir():
        return gone(folder) if errno.ENOENT in numbers else None
    if errno.EROFS in numbers and is_read_only(folder):
        return UserError(
            f"run_dir={folder}: its file system has become read-only. Make it writable; the same command then resumes.",
            code=Code.DISK,
        )
    if not numbers & {*TEXTS.values()}:
        return None
    limit = file_limit()
    if errno.EFBIG in numbers or (numbers == {None} and limit is not None and limit < (need_bytes or 0)):
        needed = f", and a checkpoint needs {need_bytes / MIB:,.1f} MiB" if need_bytes is not None else ""
        allowed = f"at most {limit / MIB:,.1f} MiB" if limit is not None else "a smaller size only"
        why = f"this shell allows files of {allowed} (`ulimit -f`){needed}. Raise that limit"
    else:
        why = _shortage(folder, need_bytes, is_quota=errno.EDQUOT in numbers)
    return UserError(
        f"run_dir={folder}: {why}; the same command then resumes, and earlier checkpoints are intact.", code=Code.DISK
    )


def gone(folder: Path | str) -> UserError:
    return UserError(
        f"run_dir={folder} is gone: it was moved or removed while the command ran. Move it back; the same command then "
        "resumes from its last checkpoint.",
        code=Code.DISK,
    )


def file_limit() -> int | None:
    """The largest size of a file that this process may write; None if there is no limit (`ulimit -f`)."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def is_read_only(folder: Path | str) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _errnos(error: BaseException) -> set[int | None]:
    """The error numbers in a chain of errors; None for a failed write without a number."""
    links = list(causes(error))
    numbers: set[int | None] = {link.errno for link in links if isinstance(link, OSError) and link.errno is not None}
    return numbers or {number for link in links for text, number in TEXTS.items() if text in str(link)}


def _shortage(folder: Path | str, need_bytes: int | None, *, is_quota: bool) -> str:
    disk = os.statvfs(folder)
    needed = f", {need_bytes / MIB:,.1f} MiB needed" if need_bytes is not None else ""
    free = f"{disk.f_bavail * disk.f_frsize / MIB:,.1f}"
    if is_quota:
        used_up = f"your disk quota is used up ({free} MiB free{needed} on the disk itself)"
        return f"{used_up}. Remove some files or raise the quota"
    if disk.f_files and not disk.f_favail:
        return "the disk has no room for more files (no inodes are free). Remove some files"
    return f"the disk is full ({free} MiB free{needed}). Free some space or raise the quota"
