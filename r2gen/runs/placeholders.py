"""Files that are there instead of the real one: a pointer of git-LFS or git-annex, or a saved web page."""

import re
from pathlib import Path

LONGEST_POINTER = 1024  # bytes
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\s.*?^size (\d+)", re.DOTALL | re.MULTILINE)
_ANNEX = re.compile(rb"/annex/objects/|(\.\./)*\.git/annex/objects/")
_PAGE = re.compile(rb"\s*<(!doctype html|html)[\s>]", re.IGNORECASE)


def placeholder(file: Path) -> str | None:
    """What a file is instead of the real one, and what to do; None if it is none of these, or cannot be read."""
    try:
        if not file.is_file():  # opening a pipe would wait for its writer
            return None
        with file.open("rb") as opened:
            head = opened.read(LONGEST_POINTER)
    except OSError:
        return None
    pointer = _LFS.match(head)
    if pointer:
        return (
            f"{file} is a git-LFS pointer to a file of {int(pointer[1]) / 1e6:,.1f} MB, not the file: run `git lfs "
            f"install` and `git lfs pull` in {file.parent}, or download the file again"
        )
    if _ANNEX.match(head):
        return f"{file} is a git-annex pointer, not the file: run `git annex get {file.name}` in {file.parent}"
    if _PAGE.match(head):
        return f"{file} is a web page, not the file: download it with the page's download link"
    return None
