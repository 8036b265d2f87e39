"""The folder of a run: its identity, its state, and who may write in it. Imports no torch.

config.yaml   resolved and frozen        run.json        status, overrides, revision, versions, machine
train.jsonl   steps and validations      checkpoints/    step-00000400/, best, last
predictions/  <split>.<generation>.jsonl metrics.json    report.html
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from r2gen.errors import UserError
from r2gen.provenance import canonical

FORMAT = 1
EXPORTED = "model.safetensors"  # the weights in a folder that task=export wrote
EXPORTED_LM = "./lm"  # the language model in a folder that task=export wrote
OURS = {".lock", "config.yaml", "run.json"}  # what may lie in a folder whose first start was killed
PARTIAL = ".partial-"  # how the name begins of what is being written; a kill leaves it
SAID = f"{PARTIAL}said-"  # of the mark that a rank has printed a message, which the others need not repeat
# What changes neither weights nor scores: where, how fast, how loud.
PROCESS_ONLY = (
    "choices",
    "run_dir",
    "fresh",
    "task",
    "hub",
    "images",
    "checkpoint",
    "out",
    "sweep",
    "logger",
    "data.root",
    "data.check",
    "data.section",
    "prepare",
    "runs",
    "compare",
    "trainer.devices",
    "metrics.chexbert.path",
    "metrics.chexbert.bert",
    "metrics.radgraph.path",
    "metrics.radgraph.bert",
    "trainer.workers",
    "trainer.micro_batch_size",
    "trainer.film_cache_mib",
    "trainer.timeout_s",
    "trainer.keep",
    "trainer.save_every_steps",
    "trainer.log_every_steps",
    "trainer.resume",
    "trainer.device",
    "trainer.nodes",
    "trainer.hostfile",
    "evaluate.page_studies",
)
# What config.yaml and run.json hold under these names, so that a file edited by hand is one message.
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
NEEDED = ("lm", "data", "choices", "format", "status", "git", "overrides", "identity", "seconds")
# What may change within one run: how long it trains, and what is evaluated.
EXTENSIBLE = ("evaluate", "trainer.epochs", "trainer.max_steps")


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf; empty groups are leaves."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from flat(value, name + ".")
        else:
            yield name, value


def lies_under(key: str, *names: str) -> bool:
    """Whether a dotted key is one of the names, or below one."""
    return any(key == name or key.startswith(name + ".") for name in names)


def without(config: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The dotted leaves of a configuration but those that are, or lie under, one of the names."""
    return {key: value for key, value in flat(config) if not lies_under(key, *names)}


def identity(config: dict[str, Any], data_hash: str) -> str:
    """16 hex digits: equal for two configurations that must give the same weights at the same step."""
    kept = without(config, PROCESS_ONLY + EXTENSIBLE)
    return hashlib.sha256((canonical(kept) + data_hash).encode()).hexdigest()[:16]


def differences(stored: dict[str, Any], asked: dict[str, Any], but: tuple[str, ...]) -> list[str]:
    """`name: stored -> asked` for every leaf that differs, leaving out the names in `but`."""
    old, new = without(stored, but), without(asked, but)
    names = sorted({*old, *new})
    absent = object()
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if old.get(name, absent) != new.get(name, absent)
    ]


def _shown(leaves: dict[str, Any], name: str) -> str:
    return str(leaves[name]) if name in leaves else "(not there)"


@dataclass(frozen=True)
class Finished:
    """config.yaml and run.json of a finished run as they stand, and its last checkpoint's name."""

    config: str
    facts: str
    last: str | None


class RunFolder:
    """Reads and writes the small files of one run; every write is whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.run_file = path / "run.json"
        self._lock: IO[str] | None = None

    def exists(self) -> bool:
        return self.run_file.is_file()

    def refuse_exported(self, *, fresh: bool) -> None:
        """Such a folder has no checkpoints/, so it would pass for a start that trained nothing, which is cleared."""
        if (self.path / EXPORTED).is_file() and not fresh:
            raise UserError(
                f"run_dir={self.path} holds an exported model: give another folder, or fresh=true to remove it"
            )

    def create(self) -> None:
        """Make the folder, readable by its owner alone: it holds patient text."""
        take_folder(self.path, option="run_dir", known_by=self.run_file.name, ours=OURS)

    def lock(self) -> int:
        """Take the folder for this process and its ranks; gives the file number that ranks inherit.

        The lock dies with the last process that holds the file open. From here on all that this process and its ranks
        write is readable by their owner alone, and what a kill left half written is gone.
        """
        os.umask(0o077)
        try:
            self._lock = open(self.path / ".lock", "a+", encoding="utf-8")  # noqa: SIM115, PTH123
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"run_dir={self.path} is in use by another command{self._holder()}: wait for it, or give another folder"
            ) from error
        except OSError as error:
            raise UserError(self._no_lock(error)) from error
        with contextlib.suppress(OSError):  # the number is for the message above: a full disk may lack it
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
            for said in self.path.glob(f"{SAID}*"):
                said.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        # run.json goes last: while it is there, a folder half emptied is still known as a run. Its checkpoints go
        # first, and at once: without them it is one that trained nothing, which the next command clears.
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
        """What a finished run says of itself, to be put back; None where there is none."""
        if not self.exists() or self.facts()["status"] != "finished":
            return None
        return Finished(self.config_file.read_text(encoding="utf-8"), self.run_file.read_text("utf-8"), self.last())

    def restore(self, finished: Finished) -> None:
        write_whole(self.config_file, finished.config)
        write_whole(self.run_file, finished.facts)

    def config(self) -> dict[str, Any]:
        try:
            config: dict[str, Any] = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{self.config_file} cannot be read: {error}") from error
        self._refuse_other(self.config_file, config, CONFIG)
        if config["lm"].get("path") == EXPORTED_LM:
            config["lm"]["path"] = str((self.path / EXPORTED_LM).absolute())
        return config

    def facts(self) -> dict[str, Any]:
        """What run.json holds."""
        try:
            facts: dict[str, Any] = json.loads(self.run_file.read_text(encoding="utf-8"))
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
    def _refuse_other(file: Path, found: Any, kinds: Mapping[str, type]) -> None:
        """Raise UserError naming what is not as a run writes it; a fact that came later may be absent."""
        if not isinstance(found, dict):
            raise UserError(f"{file} does not hold names with values: put back what the run wrote")
        wrong = [
            key
            for key, kind in kinds.items()
            if (key in NEEDED and key not in found) or not isinstance(found.get(key, kind()), kind)
        ]
        if wrong:
            raise UserError(f"{file} does not say what a run is: {', '.join(wrong)}; put back what the run wrote")

    def record(self, **facts: Any) -> None:
        """Set some facts of run.json, keeping the others."""
        known = self.facts() if self.exists() else {"format": FORMAT}
        write_whole(self.run_file, json.dumps({**known, **facts}, indent=2) + "\n")


def take_folder(path: Path, *, option: str, known_by: str, ours: Collection[str] = ()) -> None:
    """Make a folder that its owner alone can read, or take an empty one, or one of ours: that `known_by` lies in.

    `ours` may lie in a folder whose making was killed. Raises UserError where it holds other files.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        strangers = sorted(item.name for item in path.iterdir() if item.name not in ours and item.name[0] != ".")
    except OSError as error:
        raise UserError(f"{option}={path} cannot be used: {error.strerror}") from error
    if (path / known_by).is_file():
        return  # who opened it to others since meant to
    if strangers:
        raise UserError(
            f"{option}={path} holds other files ({strangers[0]}, ...) and no {known_by}: give an empty or a new folder"
        )
    with contextlib.suppress(PermissionError):  # somebody else's folder, which one may still be allowed to write in
        path.chmod(0o700)


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file under a temporary name, then rename it: readers see the old one or the new one.

    `mode` is what the umask leaves of it.
    """
    temporary = path.with_name(f"{PARTIAL}{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk its room is needed
        raise


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file; a last line torn by a kill is left out, any other broken line is a UserError."""
    if not path.exists():
        return []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{path}, line {number} is broken ({error}): remove that line") from None
        rows.append(row)
    return rows
