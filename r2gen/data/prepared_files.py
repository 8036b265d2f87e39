"""The files that task=prepare writes, for their owner only: an annotation, and next to it <name>.provenance.json."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_fault import has_surrogate
from r2gen.errors import UserError, shown
from r2gen.runs.files import check_file, check_writable, refuse_link, write_pieces, write_whole
from r2gen.runs.placeholders import placeholder
from r2gen.runs.untrusted import read_json, reason


@dataclass(frozen=True)
class Preparation:
    """What task=prepare passes to a published layout (layouts.py)."""

    root: Path  # data.root
    images: str | None  # data.images
    annotation: str  # data.annotation
    options: Mapping[str, Any]  # the group `prepare`
    made: Mapping[str, Any]  # date and code revision, for the provenance
    fresh: bool


def given(root: str | None) -> str:
    """data.root, which data=csv leaves out. Raises UserError if it is needed."""
    if root is None:
        raise UserError("data.root has no value. Prepare a table with task=prepare, then use data=own data.root=DIR.")
    return root


def one_file(root: Path, *patterns: str, named: str, folder: str) -> Path:
    """The file below data.root that has one of the patterns; `named` and `folder` are what messages call file and root.

    Raises UserError unless there is exactly one.
    """
    files = sorted(file for pattern in patterns for file in root.glob(pattern))
    if len(files) != 1:
        there = ", ".join(file.name for file in files) or "there is none"
        raise UserError(
            f"data.root={root}: task=prepare needs one {named} there: {there}. Set data.root to the folder of {folder}."
        )
    return files[0]


def unreadable(file: Path, error: Exception) -> UserError:
    """The error for a published file that is cut, or none of its kind."""
    return UserError(placeholder(file) or f"{file} cannot be read ({reason(error)}). Download it again.")


def counted(numbers: Mapping[str, int]) -> str:
    """Counts to print, as `train 1,200, val 34`."""
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items()) or "none"


def counts_table(rows: Mapping[str, Mapping[str, int] | int]) -> str:
    """A line for each title, as `dropped         no findings 3`."""
    width = max(map(len, rows))
    numbers = {title: f"{row:,}" if isinstance(row, int) else counted(row) for title, row in rows.items()}
    return "\n".join(f"{title:<{width}} {text}" for title, text in numbers.items())


def spaced(numbers: Mapping[str, int]) -> dict[str, int]:
    """The counts by names as they are printed."""
    return {name.replace("_", " "): number for name, number in numbers.items()}


def sha256_of_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def provenance_of(annotation: Path) -> Path:
    return annotation.with_name(f"{annotation.stem}.provenance.json")


def checked_file(
    root: Path, annotation: str, *, fresh: bool, elsewhere: str = "data.annotation=FILE writes another file"
) -> Path:
    """The annotation to write. Raises UserError if it exists (unless fresh), or cannot be written."""
    file = root / annotation
    for name in (file, provenance_of(file)):
        check_file(name)
    if file.exists() and not fresh:
        raise UserError(f"{file} exists already. fresh=true replaces it; {elsewhere}.")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent} does not exist. Create it, or set data.annotation to another file.")
    try:
        check_writable(file.parent)
    except OSError as error:
        raise _not_writable(file, error) from error
    for parent in (parent for parent in file.parents if parent.is_relative_to(root) and parent != root):
        refuse_link(parent)
    return file


def write_annotation(file: Path, splits: Mapping[str, list[Plain]], facts: Plain) -> Path:
    """Write both files, and return the second. `facts` say what the annotation was made from."""
    digest = hashlib.sha256()

    def pieces() -> Iterator[str]:
        for piece in json.JSONEncoder(ensure_ascii=False, indent=0).iterencode(splits):
            digest.update(piece.encode())
            yield piece
        digest.update(b"\n")
        yield "\n"

    provenance = provenance_of(file)
    try:
        write_pieces(file, pieces())
        facts = {**facts, "annotation_sha256": digest.hexdigest()}
        write_whole(provenance, json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        raise _not_writable(file, error) from error
    except UnicodeEncodeError as error:
        entries = (entry for some in splits.values() for entry in some)
        wrong = next(entry for entry in entries if has_surrogate(json.dumps(entry, ensure_ascii=False)))
        raise UserError(
            f"study {shown(wrong['id'])}: a text contains half of a surrogate pair (\\ud800 to \\udfff), which is not "
            "a character: correct it in the file that task=prepare reads"
        ) from error
    return provenance


def write_prepared(
    preparation: Preparation,
    file: Path,
    splits: Mapping[str, list[Plain]],
    *,
    layout: str,
    policy: Mapping[str, Any],
    summary: str,
    **facts: Any,
) -> str:
    """Write the annotation of a published layout and its provenance with `facts`; return what to print."""
    made_by = {"made_by": f"python run.py task=prepare data={layout}", **preparation.made}
    every = {**made_by, "policy": dict(policy), "root": str(preparation.root), **facts}
    provenance = write_annotation(file, splits, every)
    return f"{summary}\n{file} (policy, sources and counts in {provenance.name})"


def read_provenance(annotation: Path) -> Any:
    """The facts of an annotation; None if there are none, or they are those of another file."""
    try:
        facts = read_json(provenance_of(annotation))
        same = facts["annotation_sha256"] == sha256_of_file(annotation)
        return facts if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _not_writable(file: Path, error: OSError) -> UserError:
    return UserError(f"{file} cannot be written ({error.strerror}). Set data.annotation to an absolute path elsewhere.")
