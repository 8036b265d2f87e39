"""The scores of a sweep's jobs as a table in the terminal. Imports no torch."""

from collections.abc import Sequence

from r2gen.evaluate.tables import terminal_table
from r2gen.sweeps.rows import SweepRow
from r2gen.sweeps.table import splits_of


def summary(rows: Sequence[SweepRow]) -> str:
    """One table a split that some job scored: its job's name, the model's scores. No job is named without a score."""
    tables = []
    for split in splits_of(rows):
        scored = {row.name: {score: one.value for score, one in row.scores[split].items()}
                  for row in rows if split in row.scores}  # fmt: skip
        tables.append(f"{split}\n{terminal_table(scored)}")
    return "\n\n".join(tables)
