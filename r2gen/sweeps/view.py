"""The view of a running sweep: redrawn in place on a terminal, plain lines elsewhere."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from tqdm import tqdm

from r2gen.runs.progress import wrapped
from r2gen.sweeps.progress import progress_of
from r2gen.sweeps.record import JobRecord, SweepRecord

REDRAW_S, PLAIN_EVERY_S = 1.0, 30.0
ORDER = ("running", "failed", "stopped", "waiting", "skipped", "pruned", "done")
UP, CLEAR = "\x1b[{}F", "\x1b[J"


class View:
    """Shows a sweep's record as it changes."""

    def __init__(self) -> None:
        self.on_terminal = sys.stdout.isatty()
        self.drawn, self.drawn_at = 0, 0.0  # number of lines on the terminal, and time of the last output
        self.printed: dict[int, tuple[str, int]] = {}  # state and tries of each job, by number

    def show(self, record: SweepRecord, *, last: bool = False) -> None:
        """Print what is new. Call it often: a terminal is redrawn once a second at most."""
        due_s = REDRAW_S if self.on_terminal else PLAIN_EVERY_S
        due = last or time.monotonic() - self.drawn_at > due_s
        if self.on_terminal:
            if due:
                self._redraw(record, last=last)
        else:
            self._print(record, due=due and not last)
        if due:
            self.drawn_at = time.monotonic()

    def _redraw(self, record: SweepRecord, *, last: bool) -> None:
        size = shutil.get_terminal_size()
        lines = sweep_lines(record, most=None if last else size.lines - 3)
        # A line that wraps could not be drawn over; the last lines are not.
        lines = [wrapped(line, indent="    ") if last else line[: size.columns - 1] for line in lines]
        back = UP.format(self.drawn) if self.drawn else ""
        print(back + CLEAR + "\n".join(lines), flush=True)
        self.drawn = len(lines)

    def _print(self, record: SweepRecord, *, due: bool) -> None:
        names = labels(record.jobs)
        for job in record.jobs:
            if self.printed.get(job.number, ("waiting", 0)) != (job.state, job.tries):
                self.printed[job.number] = job.state, job.tries
                print(f"{head(record)} | {job_line(job, names[job.number])}", flush=True)
        running = [f"{names[job.number]}: {activity(job)}" for job in record.jobs if due and job.state == "running"]
        if running:
            print(f"{head(record)} | {'; '.join(running)}", flush=True)


def sweep_lines(record: SweepRecord, *, most: int | None) -> list[str]:
    """The sweep as text: a line of counts, and a line for each job; of more than `most` lines the most relevant."""
    names = labels(record.jobs)
    jobs = sorted(record.jobs, key=lambda job: (ORDER.index(job.state), job.number))
    shown = jobs if most is None or len(jobs) <= most else jobs[: most - 1]
    lines = [f"{record.name}: {head(record)}", *(f"  {job_line(job, names[job.number])}" for job in shown)]
    return [*lines, f"  and {len(jobs) - len(shown)} more"] if len(shown) < len(jobs) else lines


def head(record: SweepRecord) -> str:
    counts = record.counts()
    return f"{counts['done']}/{len(record.jobs)} done" + "".join(
        f", {counts[state]} {state}" for state in ORDER[:-1] if counts[state]
    )


def job_line(job: JobRecord, name: str) -> str:
    start = f"{job.state:<8} {name}"
    if job.state == "running":
        return f"{start}  {activity(job)}"
    if job.state == "done":
        return f"{start}  {tqdm.format_interval(job.seconds)}{f' ({job.reason})' if job.reason else ''}"
    return f"{start}{': ' + job.reason if job.reason else ''}"


def activity(job: JobRecord) -> str:
    """Where a job runs, and its progress."""
    gpus = f"GPU {','.join(job.gpus)}, " if job.gpus else ""
    progress = progress_of(Path(job.run_dir)) if job.run_dir and job.task == "train" else None
    second_try = f" ({job.reason})" if job.reason else ""
    return f"{gpus}{progress or 'starting'}{second_try}"


def labels(jobs: Sequence[JobRecord]) -> dict[int, str]:
    """By job number, the overrides that not all jobs share; of a single job all overrides, shortened."""
    if len(jobs) == 1:
        return {jobs[0].number: shorten(" ".join(jobs[0].overrides), 60, placeholder=" …") or "job 0"}
    common = set[str].intersection(*(set(job.overrides) for job in jobs)) if jobs else set()
    return {
        job.number: " ".join(text for text in job.overrides if text not in common) or f"job {job.number}"
        for job in jobs
    }
