"""Prediction files: one generated report a line, under a header that says what made them. Imports no torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2gen.errors import UserError
from r2gen.runs.files import write_whole

Header = dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    id: str
    report: str
    reference: str
    tokens: int  # generated, the end sign not counted
    finish: str  # "stop": the model ended it; "length": max_new_tokens did
    seconds: float  # its share of its batch's wall time


def predictions_file(run_dir: Path, split: str, profile: str) -> Path:
    return run_dir / "predictions" / f"{split}.{profile}.jsonl"


def write_predictions(file: Path, header: Header, predictions: Iterable[Prediction]) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    lines = [json.dumps({"header": header}), *(json.dumps(asdict(one)) for one in predictions)]
    write_whole(file, "\n".join(lines) + "\n")


def read_predictions(file: Path, header: Header, references: Mapping[str, str]) -> list[Prediction] | None:
    """The predictions of exactly the studies of `references` under exactly this header, None where they must be made.

    Raises UserError where a line is no prediction, or its reference not that of the data set.
    """
    if not file.is_file():
        return None
    try:
        first, *rest = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        found = [Prediction(**line) for line in rest]
        if first != {"header": header} or [one.id for one in found] != list(references):
            return None
        for one in found:
            if not (isinstance(one.report, str) and isinstance(one.reference, str)):
                raise ValueError(f"the report or reference of {one.id!r} is no text")
            if one.reference != references[one.id]:
                raise ValueError(f"the reference of {one.id!r} is not that of the data")
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} cannot be read: {error}; remove it and it is made anew") from error
    return found
