"""What a sweep comes to: table.md, table.csv and sweep.html, and the same table for a terminal. Imports no torch."""

from r2gen.sweeps.page import write_sweep_page
from r2gen.sweeps.record import SweepFolder, SweepRecord
from r2gen.sweeps.rows import rows_of, shared_choices
from r2gen.sweeps.summary import summary
from r2gen.sweeps.table import write_tables


def write_results(folder: SweepFolder, record: SweepRecord) -> str:
    """Write them of the jobs that are scored by now; gives what the terminal shows."""
    rows = rows_of(record.jobs)
    write_tables(folder.path, rows, title=record.name)
    page = write_sweep_page(folder.path / "sweep.html", rows, title=record.name, command=record.command,
                            shared=shared_choices(record.jobs))  # fmt: skip
    return f"{summary(rows)}\n\nsweep: {folder.path}\npage: {page}"
