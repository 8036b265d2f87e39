"""The results of a sweep: table.md, table.csv, sweep.html, and tables for the terminal."""

import shlex
from collections.abc import Sequence

from r2gen.evaluate.tables import terminal_table
from r2gen.runs.progress import terminal_width
from r2gen.sweeps.job_results import JobResult, results_of, shared_choices, with_recorded_quant
from r2gen.sweeps.page import write_sweep_page
from r2gen.sweeps.record import SweepFolder, SweepRecord
from r2gen.sweeps.table import specs_of, splits_of, write_tables
from r2gen.sweeps.wandb_runs import link_runs


def write_results(folder: SweepFolder, record: SweepRecord) -> str:
    """Write the results of the jobs that are scored by now. Returns the text for the terminal."""
    jobs = [with_recorded_quant(job) for job in record.jobs]
    results = results_of(jobs)
    write_tables(folder.path, results, title=record.name)
    shared = shared_choices(jobs)
    page = write_sweep_page(
        folder.path / "sweep.html", results, title=record.name, command=record.command, shared=shared
    )
    return "\n\n".join([*_summary(results), f"sweep: {folder.path}\npage: {page}{_wandb_line(folder, record)}"])


def _wandb_line(folder: SweepFolder, record: SweepRecord) -> str:
    """The command that shows the W&B runs of the jobs on a terminal; empty if there are none."""
    runs = link_runs(folder.path, record.jobs)
    return "" if runs is None else f"\nW&B: wandb leet {shlex.quote(str(runs))}"


def _summary(results: Sequence[JobResult]) -> list[str]:
    """A table of the model's scores for each split that was scored."""
    return [
        f"{split}\n"
        + terminal_table(
            {
                result.name: {score: interval.value for score, interval in result.scores[split].items()}
                for result in results
                if split in result.scores
            },
            specs_of(results),
            width=terminal_width(),
        )
        for split in splits_of(results)
    ]
