"""The results of a run as pandas data frames, and as the HTML that a notebook shows. Needs `[tables]`."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.errors import Code, UserError, installing
from r2gen.evaluate.report_file import findings_in
from r2gen.runs.metrics_file import metrics_path, read_metrics
from r2gen.runs.prediction_lines import read_prediction_lines
from r2gen.runs.train_log import read_train_log


def scores_frame(run_dir: Path) -> Any:
    """A row for each split and system; the columns are the scores.

    With a mix, each data set has rows too, and the index is split, set and system; the set of the union is "".
    """
    rows = _scores(run_dir)
    index = [name for name in ("split", "set", "system") if name != "set" or any(name in row for row in rows)]
    return _pandas().DataFrame(rows, columns=None if rows else index).set_index(index)


def predictions_frame(run_dir: Path, profile: str) -> Any:
    """The predictions of all splits that were decoded with a profile."""
    rows: list[Plain] = []
    for file in sorted((run_dir / "predictions").glob(f"*.{profile}.jsonl")):
        content = read_prediction_lines(file)
        rows += [{"split": file.name.partition(".")[0], **row} for row in (content[1] if content else [])]
    return _pandas().DataFrame(rows, columns=None if rows else ["split", "id", "report", "reference"])


def history_frame(run_dir: Path) -> Any:
    """The events of train.jsonl, a validation's scores in columns of their own."""
    file = run_dir / "train.jsonl"
    events = read_train_log(file) if file.is_file() else []
    rows = [
        {**{key: value for key, value in event.items() if key != "scores"}, **event.get("scores", {})}
        for event in events
    ]
    return _pandas().DataFrame(rows, columns=None if rows else ["event", "step"])


def reports_frame(ids: Sequence[str], reports: Sequence[str], index: Any) -> Any:
    """The result of a prediction for a data frame."""
    findings = [", ".join(findings_in(report)) for report in reports]
    return _pandas().DataFrame({"id": ids, "report": reports, "findings": findings}, index=index)


def html_of(facts: Mapping[str, str], run_dir: Path) -> str:
    """A run in a notebook: what it is, and its scores."""
    head = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    rows = _scores(run_dir)
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(name)))}</td>" for name in names) + "</tr>" for row in rows
    )
    table = f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>{cells}</table>" if rows else ""
    return f"<table>{head}</table>{table}"


def _scores(run_dir: Path) -> list[Plain]:
    splits = read_metrics(metrics_path(run_dir)).get("splits", {})
    is_mix = any("sets" in entry for entry in splits.values())
    return [
        {"split": split, **({"set": name} if is_mix else {}), "system": system, **scores}
        for split, entry in splits.items()
        for name, part in ({"": entry} | entry.get("sets", {})).items()
        for system, scores in part["systems"].items()
    ]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise UserError(f"data frames need pandas: {installing('pandas')}", code=Code.PACKAGE_MISSING) from error
    return pandas
