"""task=index: one page that lists the runs, sweeps and comparisons in a folder, outputs/ by default.

    python run.py task=index [out=FOLDER]

It writes FOLDER/index.html. What is no folder of R2Gen is left out; what cannot be read is listed with the reason.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from r2gen.config.plain import Plain
from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError, printable
from r2gen.pages.document import content_of, write_document
from r2gen.pages.links import INDEX, RECORDS, href, members
from r2gen.runs.files import absolute
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import metrics_path, read_metrics
from r2gen.runs.provenance import now
from r2gen.runs.untrusted import misfits, read_json, reason
from r2gen.runs.verdict import verdict
from r2gen.sweeps.record import SweepFolder

SCRIPTS = ("index/page",)
NOTICE = ("Names and scores of runs.", "The pages behind the links contain patient text and images.")
SHOWN_CHOICES = ("lm", "vision", "data", "quant", "tune", "generation", "experiment")


class Comparison(TypedDict):
    """What is read of a comparison.json."""

    title: str
    written: str
    split: str
    studies: int
    systems: list[dict[str, Any]]


def index(config: Config, overrides: list[str]) -> int:
    """Write the index and print where it is. Returns the exit status."""
    folder = Path(absolute("outputs" if config.out is None else config.out))
    if not folder.is_dir():
        raise UserError(f"out={folder} is not a folder: pass the one that holds your runs, out=FOLDER")
    page = folder / INDEX
    if page.exists() and "listed" not in content_of(page):
        raise UserError(f"{page} was not written by task=index: move it away")
    content = contents(folder)
    try:
        write_document(page, title=f"Results in {folder.name}", scripts=SCRIPTS, content=content, notice=NOTICE)
    except OSError as error:
        raise UserError(f"{page} cannot be written: {error.strerror}") from error
    counted = (f"{len(content['listed'][kind])} {kind}" for kind in ("runs", "sweeps", "comparisons"))
    print(f"{', '.join(counted)}; {len(content['listed']['unreadable'])} folders cannot be read")
    print(f"page: {printable(str(page))}")
    return DONE


def contents(folder: Path) -> Plain:
    """What the page shows: the folders in `folder`, by kind."""
    listed: dict[str, list[Plain]] = {"runs": [], "sweeps": [], "comparisons": [], "unreadable": []}
    specs: dict[str, Plain] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            for kind, entry in _entries(path):
                specs |= {spec["name"]: spec for spec in entry.pop("score_specs", [])}
                listed[kind].append({"name": path.name, **entry})
        except (UserError, OSError, ValueError) as error:
            why = str(error) if isinstance(error, UserError) else reason(error)
            listed["unreadable"].append({"name": path.name, "reason": why})
    held = _members_by_name(folder)
    for run in listed["runs"]:
        path = (folder / run["name"]).resolve()
        run["part_of"] = [name for name, paths in held.items() if path in paths]
    return {
        "title": folder.name,
        "written": now(),
        "patient": False,
        "score_specs": list(specs.values()),
        "listed": listed,
    }


def _entries(path: Path) -> Iterator[tuple[str, Plain]]:
    """What a folder is, with what the page shows of it; nothing if R2Gen did not make it."""
    if RunFolder(path).exists():
        yield "runs", _run(path)
    if SweepFolder(path).exists():
        yield "sweeps", _sweep(path)
    if (path / "comparison.json").is_file():
        yield "comparisons", _comparison(path)


def _page(path: Path, name: str) -> str | None:
    page = path / name
    return href(page, folder=path.parent) if page.is_file() else None


def _run(path: Path) -> Plain:
    folder = RunFolder(path)
    facts, metrics = folder.facts(), read_metrics(metrics_path(path))
    choices = folder.config()["choices"]
    splits = metrics.get("splits") or {}
    specs = metrics.get("score_specs", [])
    return {
        "page": _page(path, "report.html"),
        "status": facts["status"],
        "reason": facts.get("reason"),
        "choices": {group: choices[group] for group in SHOWN_CHOICES if choices.get(group) is not None},
        "started": facts.get("started"),
        "finished": facts.get("finished"),
        "score_specs": specs,
        "splits": {
            split: {
                "scores": entry["systems"]["model"],
                "margins": entry.get("margins", {}),
                "verdict": verdict(entry, specs)[:1],
            }
            for split, entry in splits.items()
        },
    }


def _sweep(path: Path) -> Plain:
    record = SweepFolder(path).read()
    return {
        "page": _page(path, "sweep.html"),
        "title": record.name,
        "command": record.command,
        "started": record.started,
        "counts": dict(record.counts()),
    }


def _comparison(path: Path) -> Plain:
    stored = read_json(path / "comparison.json")
    wrong = next(misfits(stored, Comparison), None)
    if wrong is not None:
        raise ValueError(f"comparison.json: {wrong} is missing or has another type")
    names = [str(system.get("name")) for system in stored["systems"] if system.get("kind") != "null"]
    return {
        "page": _page(path, "compare.html"),
        "title": stored["title"],
        "written": stored["written"],
        "about": f"{stored['split']} split, {stored['studies']:,} studies",
        "systems": names,
    }


def _members_by_name(folder: Path) -> dict[str, set[Path]]:
    """The runs of each sweep and comparison in the folder, by its name."""
    return {file.parent.name: set(members(file)) for record in RECORDS for file in sorted(folder.glob(f"*/{record}"))}
