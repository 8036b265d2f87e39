"""Whether the language model of a run was tried before, so that later commands need not try it again.

Before a language model is used, its size and its tokenizer are tried in other processes, and it reads a few tokens,
their embeddings, and a tree of two beams (r2gen/lm/load.py): 1.5 s for 7 billion weights on a GPU. A training whose
model passes all of that records a digest of what the result depends on.
"""

import hashlib
import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from r2gen.config.root import ROOT
from r2gen.config.schema import Config
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import files_hash


def was_tried(config: Config, *, gpu: str | None) -> bool:
    """Whether the run's language model has passed all of that, the tree too, in the same circumstances.

    `gpu` is the name of the GPU that is used; None for a CPU.
    """
    folder = RunFolder(config.folder)
    recorded = folder.facts().get("lm_tried") if folder.exists() else None
    return recorded is not None and recorded == circumstances(config, gpu=gpu)


def record_tried(config: Config, *, gpu: str | None) -> None:
    """Record in run.json that the run's language model has passed."""
    digest = circumstances(config, gpu=gpu)
    if digest is not None:
        RunFolder(config.folder).record(lm_tried=digest)


def circumstances(config: Config, *, gpu: str | None) -> str | None:
    """A digest of the checkpoint's files and options, of the installed packages, of this package, and of the GPU.

    None if lm.path is not the folder that is read: a hub id, a folder of the hub's cache, or a GGUF file. Files of this
    package count by their times, so that a run folder from elsewhere cannot claim that its model was tried here.
    """
    folder = None if config.lm.path is None else Path(config.lm.path).expanduser()
    if folder is None or not (folder / "config.json").is_file():
        return None
    options = [asdict(config.lm), asdict(config.quant), config.trainer.precision]
    about = [files_hash(folder), options, installed(), code(), gpu]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def installed() -> list[str]:
    """The names, with versions, of what is installed in the folders of torch and transformers."""
    specs = [find_spec(package) for package in ("torch", "transformers")]
    folders = {Path(spec.origin).parent.parent for spec in specs if spec is not None and spec.origin is not None}
    return sorted(file.name for folder in folders for file in folder.glob("*.dist-info"))


def code() -> list[tuple[str, int, int]]:
    """The name, size and time of each file of this package."""
    files = sorted((ROOT / "r2gen").rglob("*.py"))
    return [(str(file.relative_to(ROOT)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
