"""Prediction files: one generated report per line, below a header that states what made them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.runs.files import make_folder, write_whole
from r2gen.runs.prediction_lines import wrong_in_line
from r2gen.runs.untrusted import parse_json, read_text

Header = Plain


@dataclass(frozen=True)
class Prediction:
    id: str
    report: str
    reference: str
    tokens: int  # generated tokens, without EOS
    finish: str  # "stop": the model wrote EOS; "length": max_new_tokens was reached
    seconds: float  # mean time per report of its rank until then


def predictions_file(run_dir: Path, split: str, profile: str) -> Path:
    return run_dir / "predictions" / f"{split}.{profile}.jsonl"


def dropped_file(file: Path, system: str) -> Path:
    """The predictions of the same split with an input withheld: in a folder below, since a page shows those above."""
    return file.parent / system / file.name


def write_predictions(
    file: Path, header: Header, predictions: Iterable[Prediction], *, decoded: Plain | None = None
) -> None:
    """Write predictions below their header. `decoded` says how, such as in how many slots, which memory may limit."""
    make_folder(file.parent)
    first = {"header": header, "decoded": decoded}
    lines = [json.dumps(first), *(json.dumps(asdict(prediction)) for prediction in predictions)]
    write_whole(file, "\n".join(lines) + "\n")


def read_predictions(file: Path, header: Header, references: Mapping[str, str]) -> list[Prediction] | None:
    """The predictions in a file; None if it has another header, or other studies than `references`.

    Raises UserError if a line is not a prediction, or its reference differs from the data set's.
    """
    if not file.is_file():
        return None
    try:
        first, *rest = [parse_json(line) for line in read_text(file).split("\n") if line]
        for number, line in enumerate(rest, start=2):
            if wrong := wrong_in_line(line, is_header=False):
                raise ValueError(f"line {number}: {wrong}")
        predictions = [Prediction(**line) for line in rest]
        if (
            not isinstance(first, dict)
            or first.get("header") != header
            or [prediction.id for prediction in predictions] != list(references)
        ):
            return None
        for prediction in predictions:
            if prediction.reference != references[prediction.id]:
                raise ValueError(f"the reference of {prediction.id!r} differs from the data set's")
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read: {error}. Remove the file, and it is generated again") from error
    return predictions
