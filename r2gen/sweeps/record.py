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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from r2gen.errors import Code, UserError
from r2gen.runs.files import is_locked, take_folder, take_lock, write_whole
from r2gen.runs.provenance import now

FORMAT = 1
OURS = ("logs", "multirun.yaml", "optuna.db", "slurm")  # what a first command may leave if it is killed
PATHS = ("run_dir", "log")
STORED_AS = {"identity": "mark"}  # attributes of a job that have another key in sweep.json
OPEN = ("waiting", "running")  # the other states are done, skipped, failed, stopped and pruned


@dataclass
class JobRecord:
    number: int
    overrides: list[str]  # of the command line, including those that all jobs share
    choices: dict[str, str | None] = field(default_factory=dict)  # group to option
    task: str | None = None
    run_dir: str | None = None
    identity: str | None = None  # of the job's configuration
    state: str = "waiting"
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

    def set(self, state: str, reason: str | None = None) -> None:
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
        take_folder(self.path, option="hydra.sweep.dir", known_by=self.file.name, ours=OURS)
        (self.path / "logs").mkdir(exist_ok=True)

    def lock(self) -> None:
        """Raises UserError if another command runs this sweep."""
        self._lock = (self.path / ".lock").open("a", encoding="utf-8")
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
        """Raises UserError if the folder holds no sweep, or one of another format."""
        try:
            stored: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise UserError(
                    f"{self.file} has format {stored['format']}, this version reads {FORMAT}: give the "
                    "sweep another folder (hydra.sweep.dir=DIR)"
                )
            keys = {STORED_AS.get(item.name, item.name): item.name for item in fields(JobRecord)}
            jobs = [
                JobRecord(**{keys[key]: value for key, value in job.items() if key in keys}) for job in stored["jobs"]
            ]
            for job in jobs:
                job.run_dir, job.log = self._absolute(job.run_dir), self._absolute(job.log)
            return SweepRecord(**{**stored, "jobs": jobs})
        except FileNotFoundError as error:
            raise UserError(f"sweep={self.path} is not the folder of a sweep: there is no sweep.json in it") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.file} cannot be read: {error!r}") from error

    def _absolute(self, stored: str | None) -> str | None:
        return os.path.normpath(self.path.resolve() / stored) if stored is not None else None
