"""Tables as CSV text that a spreadsheet opens as data, never as formulas."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet evaluates text that begins with one of these


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The head and the rows as CSV. A text that starts like a formula (a run's name may) gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([[inert(cell) for cell in row] for row in (head, *rows)])
    return out.getvalue()


def inert(cell: object) -> object:
    """The cell, with a leading apostrophe if a spreadsheet would take it for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def restored(cell: str) -> str:
    """The cell that `inert` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell
