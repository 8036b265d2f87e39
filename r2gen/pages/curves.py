"""What a run's train.jsonl has for curves. Imports no torch."""

import math
from pathlib import Path

from r2gen.errors import UserError
from r2gen.pages.document import Row
from r2gen.runs.files import read_jsonl


def curves_of(path: Path, *, most: int) -> Row:
    """Steps, about `most` of them, and validations to draw from a train.jsonl.

    Of a stretch trained twice (killed, then resumed) the later one counts. Raises UserError naming a broken line.
    """
    kept: dict[str, list[Row]] = {"step": [], "validation": []}
    for number, row in enumerate(read_jsonl(path), start=1):
        if row.get("event") not in kept:
            continue
        if not isinstance(row.get("step"), int):
            raise UserError(f'{path}, event {number} has no "step": remove that line')
        rows = kept[row["event"]]
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        rows.append(row)
    return {"steps": _thin(kept["step"], most), "logged": len(kept["step"]), "validations": kept["validation"]}


def _thin(rows: list[Row], most: int) -> list[Row]:
    """Of each stretch the rows with the lowest and the highest loss, so that a spike survives."""
    if len(rows) <= most:
        return rows
    length = math.ceil(2 * len(rows) / most)
    kept = {0, len(rows) - 1}
    for start in range(0, len(rows), length):
        stretch = range(start, min(start + length, len(rows)))
        kept |= {min(stretch, key=lambda index: _loss(rows[index])), max(stretch, key=lambda index: _loss(rows[index]))}
    return [rows[index] for index in sorted(kept)]


def _loss(row: Row) -> float:
    """For ordering only: a loss that is no number counts as the highest."""
    loss = row.get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else math.inf
