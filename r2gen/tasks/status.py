"""task=status: where a sweep stands, from any terminal and while it runs. Imports no torch."""

import signal
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError
from r2gen.sweeps.record import OPEN, SweepFolder
from r2gen.sweeps.results import write_results
from r2gen.sweeps.view import sweep_lines


def status(config: Config, overrides: list[str]) -> int:
    """Print the sweep's jobs and the scores that are there, and make its table and page anew."""
    if config.sweep is None:
        raise UserError("task=status needs the folder of a sweep: sweep=outputs/sweep-NAME-0123abcd")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    folder = SweepFolder(Path(config.sweep))
    record = folder.read()
    if not folder.is_at_work():
        for job in record.jobs:
            if job.state == "running" and job.queue_id is None:
                job.state, job.reason = "stopped", "its sweep was killed"
    print("\n".join(sweep_lines(record, most=None)))
    if any(job.state in (*OPEN, "stopped", "failed") for job in record.jobs) and not folder.is_at_work():
        print(f"\nnobody is at work on it; what is missing or failed runs again with\n  {record.command}")
    print(f"\n{write_results(folder, record)}")
    return DONE
