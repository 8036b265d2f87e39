"""train.jsonl: the steps and validations of a training, read here and nowhere else."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Required, TypedDict

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.runs.untrusted import misfits, parse_json, read_jsonl

EVENTS = ("step", "validation")


class Record(TypedDict, total=False):
    """The types in a line, so that one that was edited gets one message. NaN is a number here."""

    event: Required[Literal["step", "validation"]]
    step: Required[int]
    epoch: float
    loss: float | None
    lr: float | None
    grad_norm: float | None
    samples_per_s: float
    seconds: float
    objective: dict[str, float]  # numbers of the objective, such as the reward
    split: str
    scores: dict[str, float]
    selection: float
    best: bool


def read_train_log(path: Path) -> list[Plain]:
    """The records of a train.jsonl; empty if there is none. Raises UserError naming a broken line.

    Lines of another event are left out.
    """
    return list(_checked(read_jsonl(path), path))


def last_records(path: Path, tail: bytes) -> list[Plain]:
    """The records of the complete lines in the last bytes of a train.jsonl."""
    rows = []
    for line in tail.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):  # the first line may be cut
            rows.append(parse_json(line.decode()))
    return list(_checked((row for row in rows if isinstance(row, dict)), path))


def _checked(rows: Iterable[Plain], path: Path) -> Iterator[Plain]:
    for number, row in enumerate(rows, start=1):
        if row.get("event") not in EVENTS:
            continue
        wrong = list(misfits(row, Record, finite=False))
        if wrong:
            raise UserError(f'{path}: event {number} has no valid "{wrong[0]}". Remove that line.')
        yield row
