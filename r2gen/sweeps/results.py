"""What a sweep comes to: table.md, table.csv and sweep.html, and the same table for a terminal. Imports no torch."""

from collections.abc import Sequence

from r2gen.evaluate.tables import terminal_table
from r2gen.sweeps.page import write_sweep_page
from r2gen.sweeps.record import SweepFolder, SweepRecord
from r2gen.sweeps.rows import SweepRow, rows_of, shared_choices
from r2gen.sweeps.table import specs_of, splits_of, write_tables


def write_results(folder: SweepFolder, record: SweepRecord) -> str:
    """Write them of the jobs that are scored by now; gives what the terminal shows."""
    rows = rows_of(record.jobs)
    write_tables(folder.path, rows, title=record.name)
    page = write_sweep_page(
        folder.path / "sweep.html", rows, title=record.name, command=record.command, shared=shared_choices(record.jobs)
    )
    return "\n\n".join([*_summary(rows), f"sweep: {folder.path}\npage: {page}"])


def _summary(rows: Sequence[SweepRow]) -> list[str]:
    """A table for each split that some job scored: the jobs' names and the model's scores."""
    return [
        f"{split}\n"
        + terminal_table(
            {
                row.name: {score: one.value for score, one in row.scores[split].items()}
                for row in rows
                if split in row.scores
            },
            specs_of(rows),
        )
        for split in splits_of(rows)
    ]
