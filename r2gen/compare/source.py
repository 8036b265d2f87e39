"""What `runs=[...]` names: run folders of ours, and files of reports made elsewhere. Imports no torch."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2gen.compare.report_file import read_reports
from r2gen.config.plain import without
from r2gen.errors import UserError
from r2gen.evaluate.baselines import NULL_ROWS
from r2gen.evaluate.predictions import predictions_file
from r2gen.evaluate.recipe import METRICS_FORMAT
from r2gen.evaluate.scores import Signature
from r2gen.runs.files import absolute
from r2gen.runs.folder import RunFolder
from r2gen.runs.identity import PROCESS_ONLY

SPLITS = ("test", "val")  # the first that every run has is compared, unless compare.split says so
_NAME = re.compile(r"\w[\w .+-]{0,59}")  # what a table, a LaTeX file and a page may show as it stands
# What the systems of one configuration may differ in.
_ANY_SEED = ("seed", "metrics", "evaluate.batch_size", "evaluate.nearest_studies")


@dataclass(frozen=True)
class Recorded:
    """The scores that a run's metrics.json holds for one split."""

    corpus: dict[str, float]
    per_report: dict[str, dict[str, float]]
    details: dict[str, dict[str, dict[str, float | None]]]
    signatures: dict[str, Signature]  # by metric


@dataclass(frozen=True)
class Source:
    """Reports of one split, by study id, and where they come from."""

    name: str
    kind: str  # "run", "file" or "null", as in System
    path: str
    reports: dict[str, str]
    references: dict[str, str] | None = None
    about: dict[str, str] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)  # what made the reports, in files of ours
    recorded: Recorded | None = None  # None: scored from the reports
    recipe: Signature = field(default_factory=dict)  # of a run's texts, as its metrics.json says
    config: dict[str, Any] | None = None  # a run's config.yaml
    constant: str | None = None  # the report of a run's null row
    notes: tuple[str, ...] = ()

    def configuration(self) -> dict[str, Any] | None:
        """What the runs of one configuration have in common, whatever their seed; None for files."""
        return None if self.config is None else without(self.config, PROCESS_ONLY + _ANY_SEED)


def read_sources(given: Sequence[str], *, split: str | None, rescore: bool) -> tuple[str, list[Source]]:
    """The split that is compared, and a source for each of `runs`: PATH or name=PATH.

    Raises UserError where a name or a path cannot be used, or no split has scores in all runs.
    """
    if not given:
        raise UserError("task=compare needs runs=[...]: run folders and files of reports, each PATH or name=PATH")
    named = [_named(text) for text in given]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"runs: two are called {name}: type 'runs=[first=PATH,second=PATH]'")
        if name in (*NULL_ROWS, "reference"):
            raise UserError(f"runs: {name} is the name of a row of ours: type 'runs=[another={dict(named)[name]}]'")
        if not _NAME.fullmatch(name):
            raise UserError(
                f"runs: {name!r:.80} is no name for a table: give one of letters, digits and . + - _ with "
                "'runs=[name=PATH]'"
            )
    folders = {name: RunFolder(path) for name, path in named if RunFolder(path).exists()}
    metrics = {name: _metrics(folder) for name, folder in folders.items()}
    chosen = _split(split, metrics)
    return chosen, [
        _of_run(name, folders[name], metrics[name], split=chosen, rescore=rescore)
        if name in folders
        else _of_file(name, path)
        for name, path in named
    ]


def _named(text: str) -> tuple[str, Path]:
    before, equals, after = text.partition("=")
    path = Path(absolute(after if equals and "/" not in before else text))
    if equals and "/" not in before:
        return before.strip(), path
    return path.name if path.is_dir() else path.stem, path


def _split(asked: str | None, metrics: Mapping[str, dict[str, Any]]) -> str:
    scored = {name: [split for split in SPLITS if split in found["splits"]] for name, found in metrics.items()}
    for split in [asked] if asked else SPLITS:
        if all(split in found for found in scored.values()):
            return split
    told = "; ".join(f"{name} has {', '.join(found) or 'none'}" for name, found in scored.items())
    raise UserError(
        f"compare.split={asked or 'null'}: no split has scores in all runs ({told}): score them with "
        f"python run.py task=evaluate run_dir=DIR evaluate.splits=[{asked or 'test'}]"
    )


def _of_file(name: str, path: Path) -> Source:
    found = read_reports(path)
    about = {"reports": path.name}
    if found.header is not None:
        about |= {key: str(found.header[key]) for key in ("checkpoint", "profile") if key in found.header}
    return Source(
        name=name, kind="file", path=str(path), reports=found.reports, references=found.references, about=about
    )


def _metrics(folder: RunFolder) -> dict[str, Any]:
    file = folder.path / "metrics.json"
    fix = f"score the run with python run.py task=evaluate run_dir={folder.path}"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        found = {"splits": {}} | found if isinstance(found, dict) else {"splits": None}
    except FileNotFoundError:
        raise UserError(f"{file} is missing: {fix}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): {fix}") from error
    if not isinstance(found["splits"], dict) or "generation" not in found:
        raise UserError(f"{file} holds no scores of a run: {fix}")
    return found


def _of_run(name: str, folder: RunFolder, metrics: dict[str, Any], *, split: str, rescore: bool) -> Source:
    file = predictions_file(folder.path, split, metrics["generation"])
    again = f"run python run.py task=evaluate run_dir={folder.path}"
    found = read_reports(file)
    if found.header is None or found.references is None:
        raise UserError(f"{file} has no header, or reports without a reference: remove it and {again}")
    if not rescore and metrics.get("format") != METRICS_FORMAT:
        raise UserError(
            f"{folder.path}/metrics.json was written by another version, without comparable signatures: "
            f"{again}, or take compare.rescore=true to score the reports of all runs anew"
        )
    if not rescore and metrics.get("made_by") != found.header:
        raise UserError(
            f"{file} and metrics.json are of different checkpoints or decodings: {again}, or take "
            "compare.rescore=true to score the reports that are there"
        )
    status, config, recipe = folder.facts()["status"], folder.config(), metrics.get("recipe")
    return Source(
        name=name,
        kind="run",
        path=str(folder.path),
        reports=found.reports,
        references=found.references,
        about=_about(config, found.header, status),
        header=found.header,
        config=config,
        constant=metrics.get("constant_report"),
        recipe=recipe if isinstance(recipe, dict) else {},
        recorded=None if rescore else _recorded(metrics, split, folder=folder.path),
        notes=() if status == "finished" else (f"{name} is {status}: its scores are of {found.header['checkpoint']}",),
    )


def _recorded(metrics: dict[str, Any], split: str, *, folder: Path) -> Recorded:
    try:
        entry = metrics["splits"][split]
        return Recorded(
            corpus=entry["systems"]["model"],
            per_report=metrics["per_report"][split],
            details=entry.get("details", {}).get("model", {}),
            signatures=metrics["signatures"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}/metrics.json is not whole ({error!r}): run python run.py task=evaluate run_dir={folder}"
        ) from error


def _about(config: dict[str, Any], header: dict[str, Any], status: str) -> dict[str, str]:
    choices = config.get("choices", {})
    told = {
        group: choices[group]
        for group in ("experiment", "lm", "quant", "vision", "projector", "tune", "data")
        if choices.get(group) is not None
    }
    told |= {"seed": config.get("seed"), "decoding": header.get("profile"), "checkpoint": header.get("checkpoint")}
    return {key: str(value) for key, value in (told | {"status": status}).items()}
