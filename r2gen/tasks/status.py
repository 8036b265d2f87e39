"""task=status: the state of a sweep, from any terminal and while it runs."""

import sys
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError, printable
from r2gen.runs.progress import wrapped
from r2gen.sweeps.record import OPEN, SweepFolder
from r2gen.sweeps.results import write_results
from r2gen.sweeps.view import sweep_lines


def status(config: Config, overrides: list[str]) -> int:
    """Print the sweep's jobs and their scores so far, and write its tables and page."""
    if config.sweep is None:
        raise UserError("task=status needs the folder of a sweep: sweep=outputs/sweep-NAME-0123abcd")
    folder = SweepFolder(Path(config.sweep))
    record, is_running = folder.read(), folder.is_running()
    folder.check_usable()
    if not is_running:
        for job in record.jobs:
            if job.state == "running" and job.queue_id is None:
                job.state, job.reason = "stopped", "its sweep was killed"
    lines = sweep_lines(record, most=None)
    print(printable("\n".join(wrapped(line, indent="    ") if sys.stdout.isatty() else line for line in lines)))
    if not is_running and any(job.state in (*OPEN, "stopped", "failed") for job in record.jobs):
        print(f"\nno command runs it now. To run what is missing or failed:\n  {printable(record.command)}")
    print(f"\n{printable(write_results(folder, record))}")
    return DONE
