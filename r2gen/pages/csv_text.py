"""Tables as CSV text that a spreadsheet opens as data, never as formulas."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet evaluates text that begins with one of these


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The head and the rows as CSV. A text that starts like a formula (a run's name may) gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([[_inert(cell) for cell in row] for row in (head, *rows)])
    return out.getvalue()


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
