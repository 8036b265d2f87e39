"""task=audit: describe a data set, and count the reports and images of val and test that are also in training.

    python run.py task=audit data=iu_xray data.root=/data/iu_xray

Prints a table and writes audit.json. The data set itself refuses ids, studies and patients that are in two splits.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from r2gen.config.mixed import with_roots
from r2gen.config.schema import Config
from r2gen.config.targets import instantiate
from r2gen.data.audit import statistics_of
from r2gen.data.leaks import TEXTS, context_statistics
from r2gen.data.reports import SPLITS, DataSource, Study, data_digest
from r2gen.errors import DONE, printable
from r2gen.evaluate.labeler import NO_FINDING, Status, label_report
from r2gen.evaluate.tables import aligned
from r2gen.runs.files import absolute, check_folder, take_folder, write_whole
from r2gen.runs.progress import terminal_width, wrapped

Lines = tuple[
    tuple[str, Callable[[dict[str, Any]], str]], ...
]  # title of a line, and its cell from a split's statistics


def audit(config: Config, overrides: list[str]) -> int:
    """Print the table, and write outputs/audit-<data>-<digest>/audit.json; return the exit status."""
    target, choice = with_roots(config.data, absolute), config.choices["data"]
    digest = data_digest(target)
    folder = Path(absolute(f"outputs/audit-{choice}-{digest[:8]}" if config.out is None else config.out))
    check_folder(folder, option="out", known_by="audit.json")
    data: DataSource = instantiate(target)
    data.check()
    facts = {
        "data": choice,
        "hash": digest,
        "section": data.section,
        "cleaner": data.cleaner,
        "named": data.splits(),
        **statistics_of(data, images=config.audit.films),
        "context": context_statistics(_studies(data), _quotes_findings),
    }
    print(printable(table(facts)))
    take_folder(folder, option="out", known_by="audit.json")
    write_whole(folder / "audit.json", json.dumps(facts, indent=1) + "\n")
    print(f"\nwritten: {folder / 'audit.json'}")
    return DONE


def _studies(data: DataSource) -> dict[str, Sequence[Study]]:
    return {split: data.studies(split) for split in SPLITS if data.studies(split)}


@cache
def _quotes_findings(text: str) -> bool:
    """Whether a text states that one of the 14 observations is there or not."""
    stated = label_report(text).status
    return any(name != NO_FINDING and status != Status.UNCERTAIN for name, status in stated.items())


def table(facts: dict[str, Any]) -> str:
    """The contents of audit.json, for a terminal."""
    splits = facts["splits"]
    lines = [("", *splits), *_lines([split["reports"] for split in splits.values()], _REPORT_LINES)]
    if all(split["images"] for split in splits.values()):
        lines += _lines([split["images"] for split in splits.values()], _IMAGE_LINES)
    lines += _context_lines(list(facts["context"].values()))
    head = f"data={facts['data']}: hash {facts['hash']}, section {facts['section']}, cleaner {facts['cleaner']}"
    below = [wrapped(line) for line in (*_disjoint(facts["named"]), *_most_common(facts))]
    return "\n".join([wrapped(head), "", aligned(lines, pad=str.rjust, width=terminal_width()), "", *below])


def _lines(statistics: list[dict[str, Any]], lines: Lines) -> Iterable[tuple[str, ...]]:
    return [(title, *(cell(split) for split in statistics)) for title, cell in lines]


def _share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})"


def _percent(share: float | None, places: int) -> str:
    """`-` if there are no training studies to compare with."""
    return "-" if share is None else f"{share:.{places}%}"


_REPORT_LINES: Lines = (
    ("studies", lambda split: f"{split['studies']:,}"),
    ("different reports", lambda split: f"{split['distinct']:,}"),
    ("most frequent report occurs", lambda split: f"{split['most_common']:,}"),
    ("reports that are (also) in training", lambda split: _share(split["in_training"], split["studies"])),
    (
        "median words per report (5 to 95 %)",
        lambda split: f"{split['words']['median']:.0f} ({split['words']['5 %']:.0f} to {split['words']['95 %']:.0f})",
    ),
    ("words of the longest report", lambda split: f"{split['words']['longest']:,}"),
    ("words that are not in training", lambda split: _percent(split["unknown_words"], 2)),
    ("different words not in training", lambda split: _percent(split["unknown_different"], 1)),
)
_IMAGE_LINES: Lines = (
    ("images", lambda split: f"{split['images']:,}"),
    ("studies by number of images", lambda split: ", ".join(f"{views}: {n:,}" for views, n in split["views"].items())),
    ("images examined", lambda split: f"{split['looked_at']:,}"),
    ("shortest and longest side, pixels", lambda split: f"{split['shortest_px']}, {split['longest_px']}"),
    ("mean gray (deviation of images)", lambda split: f"{split['gray_mean']:.0f} ({split['gray_deviation']:.0f})"),
    ("black images", lambda split: f"{split['blank']:,}"),
    ("images that occur twice", lambda split: f"{split['same']:,}"),
    ("images that are in training", lambda split: f"{split['in_training']:,}"),
)
_KNOWN = {
    "positions": "positions of the images",
    "indication": "an indication",
    "technique": "a technique",
    "comparison": "a comparison section",
    "age": "an age",
    "sex": "a sex",
    "prior": "a prior study",
}
_OF_PRIORS = {
    "itself": "is the study itself",
    "not_earlier": "is not earlier",
    "circle": "has the study among its own priors",
    "other_patient": "is of another patient",
    "other_split": "is of another split",
    "order_unknown": "has no days, so it may be later",
    "same_report": "has the same report",
}


def _context_lines(contexts: list[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    """What the studies tell besides images and report, and of that what gives away the report; nothing else."""
    keys = [key for key in _KNOWN if any(split["studies"][key] for split in contexts)]
    for key in keys:
        yield f"studies with {_KNOWN[key]}", *(f"{split['studies'][key]:,}" for split in contexts)
    for key in (key for key in TEXTS if key in keys):
        yield f"{key} repeats the report", *(f"{len(split['repeats_report'][key]):,}" for split in contexts)
    if "comparison" in keys:
        yield "comparison states findings", *(f"{len(split['comparison_with_findings']):,}" for split in contexts)
    for kind, title in _OF_PRIORS.items() if "prior" in keys else ():
        yield f"prior study {title}", *(f"{len(split['priors'][kind]):,}" for split in contexts)


def _disjoint(identified: dict[str, int] | None) -> list[str]:
    """What was compared between the splits. The data set has refused what is in two of them."""
    if identified is None:
        return ["splits: the studies of two splits differ by construction"]
    lines = ["splits: no id is in two splits"]
    for key, what in (("study_id", "study"), ("subject_id", "patient")):
        count, entries = identified[key], identified["entries"]
        verdict = "no" if count == entries else "unknown whether a"
        lines.append(f"splits: {verdict} {what} is in two splits ({key} in {count:,} of {entries:,} entries)")
    return lines


def _most_common(facts: dict[str, Any]) -> list[str]:
    report = facts["most_common"]["report"]
    return [] if report is None else [f"the most frequent report of training: {report[:300]}"]
