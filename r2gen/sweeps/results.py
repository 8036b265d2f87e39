"""The results of a sweep: table.md, table.csv, sweep.html, and tables for the terminal."""

from collections.abc import Sequence

from r2gen.evaluate.tables import terminal_table
from r2gen.sweeps.page import write_sweep_page
from r2gen.sweeps.record import SweepFolder, SweepRecord
from r2gen.sweeps.rows import SweepRow, rows_of, shared_choices
from r2gen.sweeps.table import specs_of, splits_of, write_tables


def write_results(folder: SweepFolder, record: SweepRecord) -> str:
    """Write the results of the jobs that are scored by now. Returns the text for the terminal."""
    rows = rows_of(record.jobs)
    write_tables(folder.path, rows, title=record.name)
    page = write_sweep_page(
        folder.path / "sweep.html", rows, title=record.name, command=record.command, shared=shared_choices(record.jobs)
    )
    return "\n\n".join([*_summary(rows), f"sweep: {folder.path}\npage: {page}"])


def _summary(rows: Sequence[SweepRow]) -> list[str]:
    """A table of the model's scores for each split that was scored."""
    return [
        f"{split}\n"
        + terminal_table(
            {
                row.name: {score: interval.value for score, interval in row.scores[split].items()}
                for row in rows
                if split in row.scores
            },
            specs_of(rows),
        )
        for split in splits_of(rows)
    ]
