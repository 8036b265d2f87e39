"""Whether the language model of a run was tried before, so that later commands need not try it again.

Before a language model is used, its size and its tokenizer are tried in other processes, and it reads a few tokens,
their embeddings, and a tree of two beams (r2gen/lm/load.py): 1.5 s for 7 billion weights on a GPU. The training records
the result with a digest of all on which it depends.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from r2gen.config.root import ROOT
from r2gen.config.schema import Config
from r2gen.runs.folder import RunFolder, Tried
from r2gen.runs.provenance import files_hash, versions


def tried_before(config: Config, *, gpu: str | None) -> bool | None:
    """Whether the run's language model can be decoded as a tree, if it was tried in the same circumstances; else None.

    `gpu` is the name of the GPU that is used; None for a CPU.
    """
    folder = RunFolder(config.folder)
    tried: Tried | None = folder.facts().get("lm_tried") if folder.exists() else None
    if tried is None or tried["circumstances"] != circumstances(config, gpu=gpu):
        return None
    return tried["tree"]


def record_tried(config: Config, *, gpu: str | None, tree: bool) -> None:
    """Record in run.json that the run's language model was tried."""
    digest = circumstances(config, gpu=gpu)
    if digest is not None:
        RunFolder(config.folder).record(lm_tried=Tried(circumstances=digest, tree=tree))


def circumstances(config: Config, *, gpu: str | None) -> str | None:
    """A digest of the checkpoint's files and options, of the packages, of this package's files, and of the GPU.

    None if the checkpoint is not a file or folder of this machine.
    """
    path = config.lm.path
    if path is None or not Path(path).exists():
        return None
    code = [(file.name, file.stat().st_mtime_ns) for file in sorted((ROOT / "r2gen" / "lm").glob("*.py"))]
    options = [asdict(config.lm), asdict(config.quant), config.trainer.precision]
    text = json.dumps([files_hash(Path(path)), options, versions(), code, gpu])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
