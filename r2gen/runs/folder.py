"""The folder of a run: its files, its state, and its lock.

config.yaml   resolved and frozen        run.json        status, overrides, revision, versions, machine
train.jsonl   steps and validations      checkpoints/    step-00000400/, best, last
predictions/  <split>.<generation>.jsonl metrics.json    report.html
external/     the same of other data sets
"""

import contextlib
import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Required, TypedDict

from r2gen.config.plain import Plain
from r2gen.errors import Code, UserError
from r2gen.runs import files
from r2gen.runs.files import PARTIAL, take_lock, write_whole
from r2gen.runs.untrusted import misfits, read_json, read_text, read_yaml, reason

FORMAT = 1
EXPORTED = "model.safetensors"  # the weights in a folder written by task=export
ENCODER = "encoder"  # in the run folder of objective=align
EXPORTED_LM = "./lm"  # the language model in a folder written by task=export
FILES = ("config.yaml", "run.json", "train.jsonl", "metrics.json", "nearest.json", "report.html")
OURS = {".lock", "config.yaml", "run.json"}  # files that a killed first start may leave
PRIVATE = 0o077  # the umask of processes that write into a run folder: only the owner can read what they write
PRINTED = f"{PARTIAL}printed-"  # begins the name of a file which says that a rank has printed a message


class Hardware(TypedDict, total=False):
    cpu: str
    cores: int | None
    memory_gib: float
    gpus: list[str]


class Part(TypedDict):
    """The number of parameters of a part of the model."""

    part: str
    total: int
    trainable: int


class Facts(TypedDict, total=False):
    """What run.json holds, so that a file edited by hand gets one message. Later versions added what may be missing."""

    format: Required[int]
    status: Required[Literal["running", "finished", "stopped", "failed"]]
    git: Required[dict[str, str | bool | None]]
    overrides: Required[list[str]]
    reason: str | None
    code: str | None
    phase: str | None
    name: str
    task: str
    command: str
    identity: str
    data_hash: str | None
    versions: dict[str, str]
    hardware: Hardware
    weights: dict[str, str]
    parameters: list[Part]
    quant: str  # of the language model, also if its checkpoint was quantised before
    seconds: dict[str, float]
    steps: int
    lm_tried: str  # in which circumstances its language model was tried (tried.py)
    context: dict[str, dict[str, int]]  # by split, the studies with each field of the context, and those cut
    start: str  # the checkpoint of another run whose weights it began with
    peak_memory_gib: float
    started: str | None
    finished: str | None
    imported: dict[str, str]
    exported: dict[str, Any]


class Stored(TypedDict, total=False):
    """The groups of config.yaml. Their content is checked where it is read (config/read.py)."""

    lm: Required[Plain]
    data: Required[Plain]
    choices: Required[dict[str, str | None]]
    quant: Plain
    vision: Plain
    projector: Plain
    tune: Plain
    context: Plain
    generation: Plain
    trainer: Plain
    evaluate: Plain
    metrics: Plain
    logger: Plain


@dataclass(frozen=True)
class Finished:
    """The text of config.yaml and run.json of a finished run, and the name of its last checkpoint."""

    config: str
    facts: str
    last: str | None


class RunFolder:
    """Reads and atomically writes the small files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.run_file = path / "run.json"
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        return self.run_file.is_file()

    def refuse_exported(self, *, fresh: bool) -> None:
        """Raise UserError for an exported model: without checkpoints/ it would be cleared as a failed start."""
        if (self.path / EXPORTED).is_file() and not fresh:
            raise UserError(
                f"run_dir={self.path} holds an exported model: give another folder, or fresh=true to remove it"
            )

    def refuse_missing(self, named: str) -> None:
        """Raise UserError where there is no run; `named` is how the user passed the folder."""
        if not self.exists():
            raise UserError(f"{named} is not a run folder: there is no run.json in it")

    def refuse_untrained(self) -> None:
        """Raise UserError where there is neither a best checkpoint nor an exported model."""
        best = self.path / "checkpoints" / "best"
        if not (best.is_symlink() or best.is_dir() or (self.path / EXPORTED).is_file()):
            raise no_checkpoint(self.path)

    def create(self) -> None:
        """Make the folder, which only its owner can read, since it holds patient text."""
        files.take_folder(self.path, option="run_dir", known_by=self.run_file.name, ours=OURS)

    def check_usable(self) -> None:
        """Raise UserError where `create` would, or where the folder cannot be written. Makes nothing."""
        files.check_folder(self.path, option="run_dir", known_by=self.run_file.name, ours=OURS)

    def refuse_links(self) -> None:
        """Raise UserError for a link in the folder through which a file elsewhere would be written or removed.

        Allowed are checkpoints/last and best, those that W&B makes in its own folder, and half-written ones, which
        `lock` removes.
        """
        for name in FILES:
            files.check_file(self.path / name)
        for link in files.links_below(self.path):
            if not (link.name.startswith(PARTIAL) or self._is_checkpoint(link) or self._is_of_wandb(link)):
                files.refuse_link(link)

    def _is_checkpoint(self, link: Path) -> bool:
        """Whether it is checkpoints/last or best and names something in that folder, which may be a link in turn."""
        folder = self.path / "checkpoints"
        target = os.path.normpath(folder.resolve() / link.readlink())
        return link in (folder / "last", folder / "best") and Path(target).parent == folder.resolve()

    def _is_of_wandb(self, link: Path) -> bool:
        folder = self.path / "wandb"
        return folder in link.parents and Path(os.path.realpath(link)).is_relative_to(folder.resolve())

    def lock(self) -> int:
        """Lock the folder for this process and its ranks; gives the file descriptor that ranks share.

        The lock ends with the last process that has the file open. From here on only the owner can read what this
        process and its ranks write. Half-written files of a killed command are removed.
        """
        os.umask(PRIVATE)
        self.refuse_links()
        try:
            files.check_writable(self.path)
            self._lock = files.open_lock(self.path / ".lock")
            is_ours = take_lock(self._lock)
        except OSError as error:
            raise UserError(self._no_lock(error)) from error
        if not is_ours:
            raise UserError(
                f"run_dir={self.path} is in use by another command{self._holder()}: wait for it, or give another "
                "folder",
                code=Code.BUSY,
            )
        with contextlib.suppress(OSError):  # the number serves the message above only; the disk may be full
            self._lock.truncate(0)
            self._lock.write(f"{os.getpid()}\n")
            self._lock.flush()
        for leftover in self.path.rglob(PARTIAL + "*"):
            files.remove(leftover)
        return self._lock.fileno()

    def _holder(self) -> str:
        number = files.read_tail(self.path / ".lock", 20).strip()
        return f" (process {number.decode()})" if number.isdigit() else ""

    def _no_lock(self, error: OSError) -> str:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"run_dir={self.path} is read-only: give another folder, or make it writable"
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return f"run_dir={self.path} is on a file system without locks: give a folder on another one"
        return f"run_dir={self.path} cannot be locked: {error.strerror}"

    def unlock(self) -> None:
        if self._lock:
            for file in self.path.glob(f"{PRINTED}*"):
                file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        # run.json is removed last, so that a half-emptied folder is still a run. checkpoints/ is removed first, and
        # at once: a run without checkpoints is cleared by the next command.
        checkpoints = self.path / "checkpoints"
        if checkpoints.is_dir():
            checkpoints.rename(self.path / f"{PARTIAL}checkpoints")
        for item in sorted(self.path.iterdir(), key=lambda item: item == self.run_file):
            if item.name != ".lock":
                files.remove(item)

    def last(self) -> str | None:
        """The name of the newest checkpoint's folder."""
        link = self.path / "checkpoints" / "last"
        return link.readlink().name if link.is_symlink() else None

    def finished(self) -> Finished | None:
        """The state of a finished run, for `restore`; None where the run is not finished."""
        if not self.exists() or self.facts()["status"] != "finished":
            return None
        try:
            return Finished(read_text(self.config_file), read_text(self.run_file), self.last())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config_file} cannot be read: {reason(error)}") from error

    def restore(self, finished: Finished) -> None:
        write_whole(self.config_file, finished.config)
        write_whole(self.run_file, finished.facts)

    def config(self) -> Plain:
        """What config.yaml holds, unchecked (stored.py gives it as an object). Raises UserError naming the file."""
        try:
            stored: Plain = read_yaml(self.config_file)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config_file} cannot be read: {reason(error)}") from error
        self._refuse_other(self.config_file, stored, Stored)
        if stored["lm"].get("path") == EXPORTED_LM:
            stored["lm"]["path"] = str((self.path / EXPORTED_LM).absolute())
        return stored

    def facts(self) -> Plain:
        """What run.json holds. Raises UserError naming the file."""
        try:
            facts: Plain = read_json(self.run_file)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.run_file} cannot be read: {reason(error)}") from error
        self._refuse_other(self.run_file, facts, Facts)
        if facts["format"] != FORMAT:
            raise UserError(
                f"{self.run_file} has format {facts['format']}, this version reads {FORMAT}: use the "
                f"version of the code that wrote it (revision {facts['git'].get('revision')})"
            )
        return facts

    @staticmethod
    def _refuse_other(file: Path, content: Any, kind: Any) -> None:
        """Raise UserError naming values of a wrong type."""
        if not isinstance(content, dict):
            raise UserError(f"{file} does not hold names with values. Put back what the run wrote")
        wrong = list(misfits(content, kind))
        if wrong:
            raise UserError(f"{file} does not describe a run: {', '.join(wrong[:5])}. Put back what the run wrote")

    def record(self, **facts: Any) -> None:
        """Set some facts of run.json, keeping the others."""
        before = self.facts() if self.exists() else {"format": FORMAT}
        write_whole(self.run_file, json.dumps({**before, **facts}, indent=2) + "\n")


def no_checkpoint(run_dir: Path) -> UserError:
    return UserError(f"{run_dir} has no checkpoint yet. Train it first")
