"""Links from a page to the pages next to it in outputs/: the index, and the sweeps and comparisons of a run."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from r2gen.config.plain import Plain
from r2gen.runs.untrusted import read_json

INDEX = "index.html"
NEWEST = 50  # sweeps and comparisons that are looked through
RECORDS = {"sweep.json": "sweep.html", "comparison.json": "compare.html"}


def href(page: Path, *, folder: Path) -> str:
    """A relative address of a page for a page in `folder`. It is never read as one with a scheme."""
    return "./" + quote(os.path.relpath(page.absolute(), folder.absolute()))


def links_of(folder: Path, runs: Iterable[Path] = ()) -> list[Plain]:
    """Links of the page in `folder`: `label` and `href` of the index, and of what holds the folder or one of `runs`.

    Only pages in the folder that the page's own folder is in are found. Files that cannot be read are left out.
    """
    outputs, wanted = folder.absolute().parent, {path.resolve() for path in (folder, *runs)}
    pages = [("All results", outputs / INDEX)] if (outputs / INDEX).is_file() else []
    for record, page in RECORDS.items():
        files = sorted(outputs.glob(f"*/{record}"), key=lambda file: file.lstat().st_mtime_ns, reverse=True)
        for file in files[:NEWEST]:
            if file.parent != folder.absolute() and wanted.intersection(members(file)):
                pages.append((file.parent.name, file.with_name(page)))
    return [{"label": label, "href": href(page, folder=folder)} for label, page in pages]


def members(record: Path) -> Iterator[Path]:
    """The run folders that a sweep.json or a comparison.json names; none if the file cannot be read."""
    try:
        stored = read_json(record)
        named = (
            [job["run_dir"] for job in stored["jobs"]]
            if record.name == "sweep.json"
            else [system["source"] for system in stored["systems"] if system["kind"] == "run"]
        )
        yield from (Path(os.path.normpath(record.parent.resolve() / path)) for path in named if path)
    except (OSError, ValueError, KeyError, TypeError):
        return
