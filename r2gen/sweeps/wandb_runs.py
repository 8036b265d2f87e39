"""SWEEP/wandb/: links to the W&B runs of a sweep's jobs, which W&B's terminal dashboard then shows together.

run-<date>-<name>/run-<name>.wandb is a link to the file of a job's run. W&B 0.31 lists folders by their names, and
shows some 15 characters of <name> at 120 columns: it is made of the choices that differ.
"""

import os
import re
from pathlib import Path

from r2gen.runs.files import make_folder
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.systems import differing

FOLDER = "wandb"
_RUN = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-")  # the folders that W&B makes in the run folder of a job


def link_runs(sweep: Path, jobs: list[JobRecord]) -> Path | None:
    """Link the W&B runs of all jobs; returns the folder of the links, or None if there are no such runs.

    Links are relative, so that a sweep and its runs can be moved together.
    """
    files = [
        (match.group(1), "_".join(differing(job, jobs).values()).replace(" ", "_") or str(job.number), file)
        for job in jobs
        if job.run_dir is not None
        for file in sorted((Path(job.run_dir) / FOLDER).glob("*/run-*.wandb"))
        if not file.is_symlink() and (match := _RUN.match(file.parent.name)) is not None
    ]
    if not files:
        return None
    folder = sweep / FOLDER
    make_folder(folder)
    for date, name, file in files:
        run = folder / f"run-{date}-{name}"
        make_folder(run)
        link = run / f"run-{name}.wandb"
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(file.resolve(), run.resolve()))
    return folder
