"""A fault of one entry of an annotation, and the checks of its texts and paths."""

from typing import Any


class Fault(ValueError):
    """A fault of one entry."""


def image_name(view: Any) -> str:
    """The name of an image, if it is a path below the image folder (image_check.py checks links). Raises Fault."""
    if not isinstance(view, str) or not view or "\0" in view or has_surrogate(view):
        raise Fault(f"image_path contains {view!r:.40}, which names no image")
    path: str = view.replace("\\", "/")  # as Windows writes it
    if path.startswith("/") or path[1:3] == ":/" or (".." in path and ".." in path.split("/")):
        raise Fault(f"image_path {view:.200} leaves the image folder: write it relative to data.images")
    return path


def has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def refuse_surrogate(text: str) -> None:
    if has_surrogate(text):
        raise Fault("contains half of a surrogate pair (\\ud800 to \\udfff), which is not a character: correct it")
