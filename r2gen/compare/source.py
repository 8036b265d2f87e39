"""What `runs=[...]` names: run folders of ours, and files of reports from other programs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r2gen.compare.report_file import read_reports
from r2gen.compare.stored import StoredConfiguration, stored_configuration
from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.evaluate.baselines import BASELINES
from r2gen.evaluate.predictions import predictions_file
from r2gen.evaluate.recipe import METRICS_FORMAT
from r2gen.evaluate.scores import Signature
from r2gen.runs.files import absolute
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import EXTERNAL, metrics_path, read_metrics

SPLITS = ("test", "val")  # without compare.split, the first that all runs have scores of
_NAME = re.compile(r"\w[\w .+-]{0,59}")  # these names need no escaping in a table, LaTeX or a page
_SHOWN_CHOICES = ("experiment", "lm", "quant", "vision", "projector", "tune", "objective", "data")


@dataclass(frozen=True)
class Recorded:
    """The scores of one split in a run's metrics.json."""

    corpus: dict[str, float]
    per_report: dict[str, dict[str, float]]
    details: dict[str, dict[str, dict[str, float | None]]]
    signatures: dict[str, Signature]  # by metric


@dataclass(frozen=True)
class Source:
    """The reports of one system for one split, by study id, and where they come from."""

    name: str
    kind: str  # as in System
    path: str  # the folder or file; for a baseline a description
    reports: dict[str, str]
    references: dict[str, str] | None = None
    about: dict[str, str] = field(default_factory=dict)
    data_hash: str = ""  # of a run's predictions
    recorded: Recorded | None = None  # None: the reports are scored here
    sets: tuple[str, ...] = ()  # of a run on a mix: its data sets, with which the ids of their studies begin
    recipe: Signature = field(default_factory=dict)  # of a run's texts, from its metrics.json
    stored: StoredConfiguration | None = None  # None: not a run
    constant: str | None = None  # the report of a run's constant baseline
    notes: tuple[str, ...] = ()


def read_sources(given: Sequence[str], *, split: str | None, rescore: bool) -> tuple[str, list[Source]]:
    """The split to compare, and a source for each entry of `runs`, which is PATH or name=PATH.

    Raises UserError where a name or a path cannot be used, or no split has scores in all runs.
    """
    if not given:
        raise UserError(
            "task=compare: no runs are given. Set runs=[...] to run folders and files, PATH or name=PATH, or sweep=DIR."
        )
    named = [_named(text) for text in given]
    _check_names(named)
    folders = {name: folder for name, path in named if (folder := run_of_results(path)) is not None}
    paths = dict(named)
    metrics = {name: _metrics(folder, paths[name]) for name, folder in folders.items()}
    chosen = _split(split, metrics)
    return chosen, [
        _run_source(name, folders[name], metrics[name], results=path, split=chosen, rescore=rescore)
        if name in folders
        else _file_source(name, path)
        for name, path in named
    ]


def run_of_results(path: Path) -> RunFolder | None:
    """The run whose results are in a folder: the run folder, or one of its folders of other data sets."""
    folder = RunFolder(path.parent.parent if path.parent.name == EXTERNAL else path)
    return folder if folder.exists() else None


def _named(text: str) -> tuple[str, Path]:
    """The name and the path of an entry of `runs`."""
    before, equals, after = text.partition("=")
    has_name = bool(equals) and "/" not in before
    path = Path(absolute(after if has_name else text))
    if has_name:
        return before.strip(), path
    return path.name if path.is_dir() else path.stem, path


def _check_names(named: Sequence[tuple[str, Path]]) -> None:
    names = [name for name, _ in named]
    for name, path in named:
        if names.count(name) > 1:
            raise UserError(f"runs: two entries have the name {name}. Name them with 'runs=[first=PATH,second=PATH]'.")
        if name in (*BASELINES, "reference"):
            raise UserError(f"runs: the name {name} is reserved. Give another one with 'runs=[another={path}]'.")
        if not _NAME.fullmatch(name):
            raise UserError(
                f"runs: {name!r:.80} cannot be the name of a system. Give a name of letters, digits and . + - _ with "
                "'runs=[name=PATH]'."
            )


def _split(requested: str | None, metrics: Mapping[str, Plain]) -> str:
    scored = {name: [split for split in SPLITS if split in of_run["splits"]] for name, of_run in metrics.items()}
    for split in [requested] if requested else SPLITS:
        if all(split in splits for splits in scored.values()):
            return split
    available = "; ".join(f"{name} has {', '.join(splits) or 'none'}" for name, splits in scored.items())
    raise UserError(
        f"compare.split={requested or 'null'}: no split has scores in all runs ({available}). Score the runs with "
        f"python run.py task=evaluate run_dir=DIR evaluate.splits=[{requested or 'test'}]"
    )


# ------------------------------------------------------------------------------------------------------------- files


def _file_source(name: str, path: Path) -> Source:
    content = read_reports(path)
    about = {"reports": path.name}
    if content.header is not None:
        about |= {key: str(content.header[key]) for key in ("checkpoint", "profile") if key in content.header}
    return Source(
        name=name, kind="file", path=str(path), reports=content.reports, references=content.references, about=about
    )


# -------------------------------------------------------------------------------------------------------- run folders


def _metrics(folder: RunFolder, results: Path) -> Plain:
    """A run's scores, with the decoding profile that they were made with."""
    file = metrics_path(results)
    metrics = read_metrics(file)
    fix = f"Score the run with {_evaluate(folder)}"
    if not metrics:
        raise UserError(f"{file}: the file does not exist. {fix}")
    if "generation" not in metrics:
        raise UserError(f"{file}: does not contain the scores of a run. {fix}")
    return metrics


def _run_source(name: str, folder: RunFolder, metrics: Plain, *, results: Path, split: str, rescore: bool) -> Source:
    file = predictions_file(results, split, metrics["generation"])
    content = read_reports(file)
    if content.header is None or content.references is None:
        raise UserError(f"{file}: the header or a reference is missing. Remove the file and run {_evaluate(folder)}")
    if not rescore:
        _check_recorded(folder, metrics, file, content.header)
    status, stored, recipe = folder.facts()["status"], stored_configuration(folder.config()), metrics.get("recipe")
    checkpoint = content.header.get("checkpoint")
    return Source(
        name=name,
        kind="run",
        path=str(results),
        reports=content.reports,
        references=content.references,
        about=_about(stored, content.header, status),
        data_hash=str(content.header.get("data_hash")),
        stored=stored,
        constant=metrics.get("constant_report"),
        sets=tuple(metrics["splits"][split].get("sets", ())),
        recipe=recipe if isinstance(recipe, dict) else {},
        recorded=None if rescore else _recorded(folder, metrics, split),
        notes=() if status == "finished" else (f"{name} is {status}; its scores are those of {checkpoint}",),
    )


def _check_recorded(folder: RunFolder, metrics: Plain, predictions: Path, header: Plain) -> None:
    """Raise UserError where a run's scores cannot be compared, or are not those of its predictions."""
    fix = f"Run {_evaluate(folder)}, or set compare.rescore=true to score the reports of all systems again."
    if metrics.get("format") != METRICS_FORMAT:
        raise UserError(
            f"{folder.path}/metrics.json: another version wrote it, without signatures that can be compared. {fix}"
        )
    if metrics.get("made_by") != header:
        raise UserError(f"{predictions}: metrics.json is of another checkpoint or decoding than these reports. {fix}")


def _recorded(folder: RunFolder, metrics: Plain, split: str) -> Recorded:
    try:
        of_split = metrics["splits"][split]
        return Recorded(
            corpus=of_split["systems"]["model"],
            per_report=metrics["per_report"][split],
            details=of_split.get("details", {}).get("model", {}),
            signatures=metrics["signatures"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder.path}/metrics.json: incomplete ({error!r}). Run {_evaluate(folder)}") from error


def _evaluate(folder: RunFolder) -> str:
    """The command that scores a run."""
    return f"python run.py task=evaluate run_dir={folder.path}"


def _about(stored: StoredConfiguration, header: Plain, status: str) -> dict[str, str]:
    about: dict[str, object] = {
        group: stored.choices[group] for group in _SHOWN_CHOICES if stored.choices.get(group) is not None
    }
    about["quant"] = header.get("quant") or about.get("quant")  # the checkpoint may have been quantised before
    about |= {"seed": stored.seed, "decoding": header.get("profile"), "checkpoint": header.get("checkpoint")}
    return {key: str(value) for key, value in (about | {"status": status}).items()}
