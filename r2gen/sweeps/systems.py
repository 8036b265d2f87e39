"""The finished runs of a sweep as the systems of a comparison, named by the choices that differ."""

import re
from pathlib import Path

from r2gen.config.overrides import option_name
from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder
from r2gen.sweeps.record import JobRecord, SweepFolder

LONGEST_NAME = 60  # of a system of a comparison


def systems_of(sweep: Path) -> tuple[list[str], list[str]]:
    """name=PATH of each finished run, as `runs` takes it, and the names of the jobs without one.

    Raises UserError if the folder holds no sweep, or none of its runs is finished.
    """
    jobs = SweepFolder(sweep).read().jobs
    named = dict(zip(short_names(jobs), jobs, strict=True))
    finished = {name: job.run_dir for name, job in named.items() if _is_finished(job)}
    if not finished:
        raise UserError(f"sweep={sweep}: none of its {len(jobs)} jobs is a finished run. Run the sweep first")
    by_folder = {run_dir: name for name, run_dir in reversed(finished.items())}  # several jobs may work on one run
    systems = [f"{name}={run_dir}" for name, run_dir in finished.items() if by_folder[run_dir] == name]
    return systems, [name for name in named if name not in finished]


def short_names(jobs: list[JobRecord]) -> list[str]:
    """For each job the options that differ, such as "llama2 int8 seed 2"; unique, with characters that a system has."""
    names: list[str] = []
    for job in jobs:
        # A choice is a word; other options have their names.
        words = [
            value if "." not in option and option != "seed" else f"{option.rpartition('.')[2]} {value}"
            for option, value in differing(job, jobs).items()
        ]
        name = " ".join(words)[: LONGEST_NAME - 5].strip() or f"job {job.number}"
        names.append(name if name not in names else f"{name} {job.number}")
    return names


def differing(job: JobRecord, jobs: list[JobRecord]) -> dict[str, str]:
    """The options of a job that not all jobs have, with their values as words; of a path the last part."""
    common = set[str].intersection(*(set(other.overrides) for other in jobs)) if len(jobs) > 1 else set[str]()
    values = {option_name(text): text.partition("=")[2] for text in job.overrides if text not in common}
    return {
        option: re.sub(r"[^\w.+-]+", " ", value.rstrip("/").rpartition("/")[2]).strip()
        for option, value in values.items()
    }


def _is_finished(job: JobRecord) -> bool:
    folder = RunFolder(Path(job.run_dir)) if job.run_dir is not None else None
    return folder is not None and folder.exists() and folder.facts()["status"] == "finished"
