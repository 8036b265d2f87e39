"""sweep.json, the record of a sweep's jobs, written atomically at each change:

    {"format": 1, "name", "command", "overrides", "started", "finished",
     "jobs": [{"number", "overrides", "choices", "task", "run_dir", "mark", "state", "reason", "log", "gpus",
               "queue_id", "micro_batch_size", "tries", "status", "started", "finished", "seconds"}, ...]}

The folder of a sweep also holds logs/, with files for each job, and multirun.yaml, the configuration all jobs share.
"""

import json
import os
import shlex
from collections import Counter
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Literal, get_type_hints

from r2gen.errors import Code, UserError, shown
from r2gen.runs import files
from r2gen.runs.files import is_locked, take_lock, write_whole
from r2gen.runs.provenance import now
from r2gen.runs.untrusted import misfits, read_json, reason

FORMAT = 1
FOLDERS = ("logs", "slurm")
OURS = (*FOLDERS, "multirun.yaml", "optuna.db", "optuna.db-journal")  # what a first command may leave if it is killed
RESULTS = ("table.md", "table.csv", "sweep.html", "dashboard.json")
PATHS = ("run_dir", "log")
STORED_AS = {"identity": "mark"}  # attributes of a job that have another key in sweep.json
State = Literal["waiting", "running", "done", "skipped", "failed", "stopped", "pruned"]
OPEN = ("waiting", "running")


@dataclass
class JobRecord:
    number: int
    overrides: list[str]  # of the command line, including those that all jobs share
    choices: dict[str, str | None] = field(default_factory=dict)  # group to option
    task: str | None = None
    run_dir: str | None = None
    identity: str | None = None  # of the job's configuration
    state: State = "waiting"
    reason: str | None = None  # for skipped, failed, stopped, pruned, or a second try
    log: str | None = None
    gpus: list[str] = field(default_factory=list)
    queue_id: str | None = None  # of a job in a cluster's queue, which outlives the command
    micro_batch_size: int | None = None  # of a second try, after the first was out of memory
    tries: int = 0
    status: int | None = None  # exit status of the last try; negative for a signal
    started: str | None = None
    finished: str | None = None
    seconds: float = 0.0  # of all tries

    def set(self, state: State, reason: str | None = None) -> None:
        self.state, self.reason = state, reason
        if state not in OPEN:
            self.finished = now()


@dataclass
class SweepRecord:
    name: str
    command: str
    overrides: list[str]
    started: str
    finished: str | None = None
    jobs: list[JobRecord] = field(default_factory=list)
    format: int = FORMAT

    def counts(self) -> Counter[str]:
        return Counter(job.state for job in self.jobs)


class SweepFolder:
    """The folder of one sweep. One command at a time works in it: its lock ends with that command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "sweep.json"
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        return self.file.is_file()

    def create(self) -> None:
        """Make the folder, readable by its owner only, since a log may hold patient text."""
        os.umask(0o077)  # also for what Optuna and submitit write
        files.take_folder(self.path, option="hydra.sweep.dir", known_by=self.file.name, ours=OURS)
        self.check_usable()
        files.make_folder(self.path / "logs")

    def check_usable(self) -> None:
        """Raise UserError where the results cannot be written: the folder is read-only, or a link is in their place."""
        for name in (*OURS, *RESULTS, self.file.name, ".lock"):
            files.refuse_link(self.path / name) if name in FOLDERS else files.check_file(self.path / name)
        for link in (link for name in FOLDERS for link in files.links_below(self.path / name)):
            files.refuse_link(link)
        try:
            files.check_writable(self.path)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}. Use a copy of it") from error

    def lock(self) -> None:
        """Raises UserError if another command runs this sweep."""
        self._lock = files.open_lock(self.path / ".lock")
        if not take_lock(self._lock):
            raise UserError(
                f"{self.path} is run by another command: python run.py task=status {shlex.quote(f'sweep={self.path}')}",
                code=Code.BUSY,
            )

    def is_running(self) -> bool:
        """Whether a command runs this sweep now."""
        return is_locked(self.path / ".lock")

    def log(self, number: int) -> Path:
        return self.path / "logs" / f"{number:03d}.log"

    def write(self, record: SweepRecord) -> None:
        """Paths are stored relative to the folder, so that a sweep and its runs can be moved together."""
        stored = asdict(record)
        for job in stored["jobs"]:
            for key in PATHS:
                job[key] = os.path.relpath(Path(job[key]).resolve(), self.path.resolve()) if job[key] else None
        stored["jobs"] = [{STORED_AS.get(name, name): value for name, value in job.items()} for job in stored["jobs"]]
        write_whole(self.file, json.dumps(stored, indent=1) + "\n")

    def read(self) -> SweepRecord:
        """Raises UserError if the folder holds no sweep, one of another format, or one that was edited."""
        try:
            stored = read_json(self.file)
            if isinstance(stored, dict) and stored.get("format") != FORMAT:
                raise UserError(
                    f"{self.file} has format {shown(stored.get('format'))}, this version reads {FORMAT}: give the "
                    "sweep another folder (hydra.sweep.dir=DIR)"
                )
            return self._record(stored)
        except FileNotFoundError as error:
            raise UserError(f"sweep={self.path} is not the folder of a sweep: there is no sweep.json in it") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.file} cannot be read: {reason(error)}. Put back what the sweep wrote") from error

    def _record(self, stored: Any) -> SweepRecord:
        """The record of a file. Raises ValueError naming a value that is missing, or of another type."""
        sweep = _known(stored, SweepRecord, "")
        if not isinstance(sweep.get("jobs"), list):
            raise ValueError("jobs")
        jobs = [JobRecord(**_known(job, JobRecord, f"jobs[{number}].")) for number, job in enumerate(sweep["jobs"])]
        for job in jobs:
            job.run_dir, job.log = self._absolute(job.run_dir), self._absolute(job.log)
        if len({job.number for job in jobs}) < len(jobs):
            raise ValueError("two jobs have the same number")
        return SweepRecord(**{**sweep, "jobs": jobs})

    def _absolute(self, stored: str | None) -> str | None:
        return os.path.normpath(self.path.resolve() / stored) if stored is not None else None


def _known(stored: Any, kind: type[JobRecord] | type[SweepRecord], prefix: str) -> dict[str, Any]:
    """The attributes of a record, checked against their types. What another version stored besides is left out."""
    if not isinstance(stored, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'the file'} does not hold names with values")
    values, hints = {}, get_type_hints(kind)
    for item in fields(kind):
        key = STORED_AS.get(item.name, item.name)
        if key in stored:
            values[item.name] = stored[key]
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{prefix}{key} is missing")
    wrong = [name for key, value in values.items() if key != "jobs" for name in misfits(value, hints[key], key)]
    wrong += [key for key in PATHS if "\0" in str(values.get(key))]
    if wrong:
        raise ValueError(f"{prefix}{wrong[0]} has another type or value")
    return values
