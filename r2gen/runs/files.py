"""Write files atomically and without following links, take folders, and lock files.

A folder may come from elsewhere, with links in the places where R2Gen writes. None of these functions follows one.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from r2gen.errors import UserError

PARTIAL = ".partial-"  # begins the name of a file that is being written; a killed process leaves it behind
OCCUPIED = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP)


def is_file(path: Path) -> bool:
    """Whether it is a file; not where the name is longer than a file's can be, for which Path.is_file may raise."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def absolute(path: str) -> str:
    """The absolute path, without `..` and `~`. Symbolic links stay, which Path.resolve would replace."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


# Folders


def take_folder(path: Path, *, option: str, known_by: str, ours: Collection[str] = ()) -> None:
    """Make a folder that only its owner can read, or take one that is empty or has the file `known_by`.

    `ours` are files that a killed command may have left in it. Raises UserError where it holds other files.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_strangers(path, option=option, known_by=known_by, ours=ours)
    except OSError as error:
        raise UserError(f"{option}={path} cannot be used: {error.strerror}") from error
    if not (path / known_by).is_file():  # otherwise keep a mode that the user has relaxed
        with contextlib.suppress(PermissionError):  # another user's folder may be writable all the same
            path.chmod(0o700)


def check_folder(
    path: Path, *, option: str, known_by: str, ours: Collection[str] = (), writes: Collection[str] = ()
) -> None:
    """Raise UserError where `take_folder` would, where no file can be written, or `writes` are no files. Makes nothing.

    Call it before work whose result goes into the folder.
    """
    try:
        for name in (known_by, *writes):
            check_file(path / name)
        if path.exists():
            _refuse_strangers(path, option=option, known_by=known_by, ours=ours)
        check_writable(next(folder for folder in (path, *path.parents) if folder.exists()))
    except OSError as error:
        raise UserError(f"{option}={path} cannot be used: {error.strerror}") from error


def check_writable(folder: Path) -> None:
    """Raise OSError where no file can be written into a folder, by writing one: modes do not tell of all reasons."""
    probe = folder / f"{PARTIAL}probe.{os.getpid()}"
    os.close(_create(probe))
    probe.unlink(missing_ok=True)


def _refuse_strangers(path: Path, *, option: str, known_by: str, ours: Collection[str]) -> None:
    strangers = sorted(item.name for item in path.iterdir() if item.name not in ours and item.name[0] != ".")
    if strangers and not (path / known_by).is_file():
        raise UserError(
            f"{option}={path} holds other files ({strangers[0]}, ...) and no {known_by}: give an empty or a new folder"
        )


def check_file(path: Path) -> None:
    """Raise UserError where R2Gen writes a file, and there is a link or a folder."""
    refuse_link(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, and R2Gen writes a file there: move it away")


def make_folder(path: Path) -> None:
    """Make a folder in one of R2Gen's folders, or keep the one that is there. Raises UserError for a link or a file."""
    refuse_link(path)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{path} is a file, and R2Gen makes a folder there: move it away") from error


def refuse_link(path: Path) -> None:
    """Raise UserError where a file or a folder that R2Gen writes is a symbolic link."""
    if path.is_symlink():
        raise UserError(
            f"{path} is a symbolic link, and R2Gen follows none where it writes: put there what it points to, or "
            "remove it"
        )


def links_below(folder: Path) -> Iterator[Path]:
    """The symbolic links in a folder and its folders, without those in half-written ones."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in [*folders, *files] if Path(parent, name).is_symlink())
        folders[:] = [name for name in folders if not name.startswith(PARTIAL)]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with what it holds, if it is there. What a link points to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def point(link: Path, name: str) -> None:
    """Point a relative link to another name, atomically."""
    temporary = link.with_name(PARTIAL + link.name)
    remove(temporary)
    temporary.symlink_to(name)
    temporary.replace(link)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync(path)


# Files


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: under a temporary name, then renamed, so that readers see the old or the new file.

    Only its owner can read it. Another name of the old file (a hard link) keeps the old content. Raises UserError where
    the path is a link or a folder.
    """
    write_pieces(path, [text])


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """`write_whole` of a text that is passed in pieces, which need not be in memory together."""
    refuse_link(path)
    temporary = path.with_name(f"{PARTIAL}{path.name}.{os.getpid()}")
    try:
        remove(temporary)
        with os.fdopen(_create(temporary), "w", encoding="utf-8") as out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # on a full disk its space is needed
        if error.errno in OCCUPIED:
            raise UserError(f"{path} cannot be written: {error.strerror}. Move away what is there") from error
        raise


def new_file(path: Path) -> IO[bytes]:
    """An empty file that only its owner can read, open for writing, in place of the one that is there."""
    refuse_link(path)
    try:
        path.unlink(missing_ok=True)
        return os.fdopen(_create(path), "wb")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file, which is made if it is not there."""
    with os.fdopen(_open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as out:
        out.write(content)


def read_tail(path: Path, most: int) -> bytes:
    """The last `most` bytes of a file, or all of a shorter one. Raises OSError where it is no file, such as a pipe."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read()


# Locks


def open_lock(path: Path) -> IO[str]:
    """A lock file, made if it is not there. Raises UserError where its content could be that of another file."""
    return os.fdopen(_open_own(path, os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8")


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
        with os.fdopen(_open_own(path, os.O_RDONLY), encoding="utf-8") as file:
            return not take_lock(file)
    except (OSError, UserError):
        return False


def _create(path: Path) -> int:
    """The descriptor of a new file. Raises FileExistsError where there is one, also for a link."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _open_own(path: Path, flags: int) -> int:
    """The descriptor of a file that is no link, no pipe, and has no other name. Raises UserError where it has."""
    refuse_link(path)
    try:  # not blocking, since opening a pipe would otherwise wait for its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (*OCCUPIED, errno.ENXIO):
            raise UserError(f"{path} is not a regular file: remove it") from error
        raise
    try:
        _refuse_other_file(path, os.fstat(descriptor))
    except UserError:
        os.close(descriptor)
        raise
    return descriptor


def refuse_second_name(path: Path) -> None:
    """Raise UserError where a file that is changed in place may be another file too, or is none."""
    if os.path.lexists(path):
        _refuse_other_file(path, path.lstat())


def _refuse_other_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a regular file: remove it")
    if status.st_nlink > 1:
        raise UserError(f"{path} has a second name (a hard link): remove it, or put a copy in its place")
