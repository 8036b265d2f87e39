"""The folder of a run: its files, its state, and its lock.

config.yaml   resolved and frozen        run.json        status, overrides, revision, versions, machine
train.jsonl   steps and validations      checkpoints/    step-00000400/, best, last
predictions/  <split>.<generation>.jsonl metrics.json    report.html
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from r2gen.config.plain import Plain
from r2gen.errors import Code, UserError
from r2gen.runs.files import PARTIAL, take_folder, take_lock, write_whole

FORMAT = 1
EXPORTED = "model.safetensors"  # the weights in a folder written by task=export
EXPORTED_LM = "./lm"  # the language model in a folder written by task=export
OURS = {".lock", "config.yaml", "run.json"}  # files that a killed first start may leave
PRINTED = f"{PARTIAL}printed-"  # begins the name of a file which says that a rank has printed a message
# The types of what config.yaml and run.json hold, so that a file edited by hand gets one message.
CONFIG = dict.fromkeys(
    (
        "lm",
        "quant",
        "vision",
        "projector",
        "tune",
        "generation",
        "data",
        "trainer",
        "evaluate",
        "metrics",
        "logger",
        "choices",
    ),
    dict,
)
FACTS = {
    "format": int,
    "status": str,
    "git": dict,
    "overrides": list,
    "name": str,
    "identity": str,
    "versions": dict,
    "hardware": dict,
    "seconds": dict,
    "weights": dict,
    "parameters": list,
}
NEEDED = ("lm", "data", "choices", "format", "status", "git", "overrides")


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

    def create(self) -> None:
        """Make the folder, which only its owner can read, since it holds patient text."""
        take_folder(self.path, option="run_dir", known_by=self.run_file.name, ours=OURS)

    def lock(self) -> int:
        """Lock the folder for this process and its ranks; gives the file descriptor that ranks inherit.

        The lock ends with the last process that has the file open. From here on only the owner can read what this
        process and its ranks write. Half-written files of a killed command are removed.
        """
        os.umask(0o077)
        try:
            self._lock = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115, PTH123
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
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        return self._lock.fileno()

    def _holder(self) -> str:
        number = (self.path / ".lock").read_text(encoding="utf-8").strip()
        return f" (process {number})" if number else ""

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
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()

    def last(self) -> str | None:
        """The name of the newest checkpoint's folder."""
        link = self.path / "checkpoints" / "last"
        return link.readlink().name if link.is_symlink() else None

    def finished(self) -> Finished | None:
        """The state of a finished run, for `restore`; None where the run is not finished."""
        if not self.exists() or self.facts()["status"] != "finished":
            return None
        return Finished(self.config_file.read_text(encoding="utf-8"), self.run_file.read_text("utf-8"), self.last())

    def restore(self, finished: Finished) -> None:
        write_whole(self.config_file, finished.config)
        write_whole(self.run_file, finished.facts)

    def config(self) -> Plain:
        """What config.yaml holds, unchecked (stored.py gives it as an object). Raises UserError naming the file."""
        try:
            stored: Plain = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{self.config_file} cannot be read: {error}") from error
        self._refuse_other(self.config_file, stored, CONFIG)
        if stored["lm"].get("path") == EXPORTED_LM:
            stored["lm"]["path"] = str((self.path / EXPORTED_LM).absolute())
        return stored

    def facts(self) -> Plain:
        """What run.json holds. Raises UserError naming the file."""
        try:
            facts: Plain = json.loads(self.run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.run_file} cannot be read: {error}") from error
        self._refuse_other(self.run_file, facts, FACTS)
        if facts["format"] != FORMAT:
            raise UserError(
                f"{self.run_file} has format {facts['format']}, this version reads {FORMAT}: use the "
                f"version of the code that wrote it (revision {facts['git'].get('revision')})"
            )
        return facts

    @staticmethod
    def _refuse_other(file: Path, content: Any, kinds: Mapping[str, type]) -> None:
        """Raise UserError naming values of a wrong type; a value that later versions added may be missing."""
        if not isinstance(content, dict):
            raise UserError(f"{file} does not hold names with values. Put back what the run wrote")
        wrong = [
            key
            for key, kind in kinds.items()
            if (key in NEEDED and key not in content) or not isinstance(content.get(key, kind()), kind)
        ]
        if wrong:
            raise UserError(f"{file} does not describe a run: {', '.join(wrong)}. Put back what the run wrote")

    def record(self, **facts: Any) -> None:
        """Set some facts of run.json, keeping the others."""
        before = self.facts() if self.exists() else {"format": FORMAT}
        write_whole(self.run_file, json.dumps({**before, **facts}, indent=2) + "\n")
