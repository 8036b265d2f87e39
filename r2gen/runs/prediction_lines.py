"""The lines of a prediction file: a header, then one report per line. evaluate/predictions.py writes them."""

from pathlib import Path
from typing import Any, Required, TypedDict

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.runs.untrusted import misfits, read_jsonl


class Line(TypedDict, total=False):
    """The types in a line, so that a file that was edited gets one message."""

    id: Required[str]
    report: Required[str]
    reference: Required[str]
    tokens: int
    finish: str
    seconds: float


class Head(TypedDict):
    header: dict[str, Any]


def read_prediction_lines(path: Path) -> tuple[Plain, list[Plain]] | None:
    """The header and the predictions of a file; None if there is no line. Raises UserError naming a broken line."""
    rows = read_jsonl(path)
    if not rows:
        return None
    for number, row in enumerate(rows, start=1):
        if wrong := wrong_in_line(row, is_header=number == 1):
            raise UserError(f"{path}, line {number}: {wrong}. Delete the file and evaluate the run again.")
    return rows[0]["header"], rows[1:]


def wrong_in_line(row: Any, *, is_header: bool) -> str:
    """What is wrong with a line; empty if nothing is."""
    wrong = next(misfits(row, Head if is_header else Line), None)
    if wrong is None:
        return ""
    return "not a header" if is_header else f'"{wrong}" is missing or has another type'
