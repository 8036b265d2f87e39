"""The forms in which people have a checkpoint besides its own folder, recognised by their files.

A repository in a hub cache is read, and so is a GGUF file (gguf.py). Of any other form a sentence says what it is and
what to pass.
"""

import re
import struct
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from r2gen.errors import Code, UserError, shown
from r2gen.runs.placeholders import placeholder
from r2gen.runs.untrusted import parse_json, read_text

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
SNAPSHOTS, REFERENCES = "snapshots", "refs"
GGUF, MAGIC = ".gguf", b"GGUF"
GGUF_VERSIONS = (1, 2, 3)
INSTALL = "pip install -c constraints.txt -e '.[gguf]'"
# A GGUF file of an image encoder, which lies next to that of its language model.
PROJECTOR = re.compile(r"(^|[.-])mmproj", re.IGNORECASE)
PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
MOST_FOLDERS = 1000  # that are looked at below a folder
LONGEST_REVISION = 100
ONE_FILE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".model", ".tiktoken", ".jinja", ".txt")
# Weights in a layout that is not read, by a file of it.
OTHER_LAYOUTS = (
    ("tf_model.h5", "TensorFlow's layout"),
    ("flax_model.msgpack", "Flax's layout"),
    ("*.nemo", "NeMo's layout"),
    ("*.onnx", "ONNX"),
    ("consolidated*.safetensors", "Mistral's own layout (consolidated.safetensors)"),
    ("consolidated*.pth", "Meta's own layout (consolidated.pth)"),
    ("*.npz", "NumPy's or MLX's layout"),
)


def refuse_file(file: Path) -> None:
    """Raise UserError for a file that was given as lm.path and is not GGUF."""
    hint = f"give its folder: lm.path={file.parent}" if file.suffix in ONE_FILE else "give a checkpoint's folder"
    raise UserError(f"lm.path={file} is a file: {hint}")


def snapshot_of(folder: Path, revision: str | None) -> Path | None:
    """The snapshot of a repository's folder in a hub cache (models--OWNER--NAME); None for any other folder.

    It is that of `revision`, or else of main, or else the only one. Raises UserError if there is none or a choice.
    """
    if not (folder / SNAPSHOTS).is_dir():
        return None
    snapshots = {path.name: path for path in _folders(folder / SNAPSHOTS)}
    wanted = revision or "main"
    named = snapshots.get(_reference(folder / REFERENCES, wanted) or wanted)
    if named is not None:
        return named
    if revision is None and len(snapshots) == 1:
        return next(iter(snapshots.values()))
    what = "no snapshot" if not snapshots else f"the snapshots {', '.join(sorted(snapshots)[:3])}"
    fix = (
        f"pass lm.path={folder / SNAPSHOTS / max(snapshots)}, or another of them"
        if snapshots
        else f"download it again: lm.path={_hub_id(folder)} hub=online"
    )
    raise UserError(
        f"lm.path: {folder} is a repository in a hub cache, with {what} and none of revision {wanted}: {fix}",
        code=Code.WEIGHTS_MISSING,
    )


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that `path` is, or that is in this folder without other weights; None if there is none.

    Raises UserError where it is not clear which file, or the file is a part of one.
    """
    if path.is_file():
        files = [path] if path.suffix.lower() == GGUF else []
    else:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == GGUF and file.is_file())
        files = [file for file in files if not PROJECTOR.search(file.name)]
    parts = [file for file in files if PART.search(file.name)]
    if parts:
        raise UserError(
            f"lm.path: {parts[0]} is one of several parts of a GGUF file: join them with llama.cpp's "
            "`llama-gguf-split --merge FIRST_PART WHOLE.gguf`, and pass lm.path=WHOLE.gguf"
        )
    if len(files) > 1:
        raise UserError(f"lm.path: {path} has {len(files)} GGUF files: pass one of them, such as lm.path={files[0]}")
    return files[0] if files else None


def check_gguf(file: Path) -> None:
    """Raise UserError for a GGUF file that cannot be read on this machine, without reading more than its beginning."""
    refuse_placeholders([file])
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise UserError(f"lm.path: {file} cannot be read as GGUF: it does not begin with {MAGIC.decode()}")
        beginning = opened.read(12)
    version, tensors = struct.unpack("<IQ", beginning) if len(beginning) == 12 else (0, 0)
    if version not in GGUF_VERSIONS or not tensors:
        raise UserError(
            f"lm.path: {file} cannot be read as GGUF: it is truncated or damaged (version {version}, {tensors:,} "
            "tensors): download it again"
        )
    if find_spec("gguf") is None:
        raise UserError(
            f"lm.path: {file} is a GGUF file, which needs the package gguf: {INSTALL}", code=Code.PACKAGE_MISSING
        )


def refuse_folder(folder: Path) -> None:
    """Raise UserError for a folder without config.json: what it is instead, and what to pass."""
    head = f"lm.path: {folder} has no {CONFIG}"
    if (folder / ADAPTER).is_file():
        raise UserError(f"lm.path: {folder} {adapter_advice(folder)}")
    if (folder / "run.json").is_file():
        raise UserError(f"{head}: it is the folder of a run of R2Gen; pass it with run_dir={folder}")
    other = other_weights(folder)
    if other:
        raise UserError(f"{head}{other}", code=Code.WEIGHTS_MISSING)
    repositories = _repositories(folder)
    if repositories:
        raise _choice(f"{head}: it is a hub cache", repositories)
    below = [path for path in _folders(folder) if (path / CONFIG).is_file() or any(path.glob(f"*{GGUF}"))]
    if below:
        raise _choice(f"{head}, but folders in it have one", [str(path) for path in below])
    raise UserError(f"{head}: it is not a checkpoint folder in transformers' layout", code=Code.WEIGHTS_MISSING)


def other_weights(folder: Path) -> str:
    """The end of a message about a folder that lacks weights: what it has instead; empty if nothing is recognised."""
    shards = sorted(folder.glob("model-*-of-*.safetensors")) or sorted(folder.glob("pytorch_model-*-of-*.bin"))
    if shards:
        index = "model.safetensors.index.json" if shards[0].suffix == ".safetensors" else "pytorch_model.bin.index.json"
        return f"; it has {len(shards)} shards such as {shards[0].name}, and {index} is missing: download that file too"
    for pattern, layout in OTHER_LAYOUTS:
        if any(folder.glob(pattern)):
            return (
                f"; its weights are in {layout}: download the same model in transformers' layout (config.json with "
                "model.safetensors)"
            )
    return ""


def adapter_advice(folder: Path) -> str:
    """What an adapter folder of PEFT is, and how to make a checkpoint of it."""
    try:
        base = parse_json(read_text(folder / ADAPTER, most=2**20)).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    of = f" of {shown(base)}" if isinstance(base, str) and base else ""
    return (
        f"has an {ADAPTER}: it is a PEFT adapter{of}, and adapters are not read; merge it into its model "
        "(AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW)), copy the "
        "tokenizer files to NEW, and pass lm.path=NEW"
    )


def refuse_placeholders(files: Iterable[Path]) -> None:
    """Raise UserError for the first file that is a pointer or a web page instead of the file of that name."""
    for file in files:
        instead = placeholder(file)
        if instead is not None:
            raise UserError(f"lm.path: {instead}", code=Code.WEIGHTS_MISSING)


def _repositories(folder: Path) -> list[str]:
    """The folders of the models in a hub cache, or in its parent. A hub id would be looked for in another cache."""
    inside = [folder, folder / "hub"]
    return [str(path) for cache in inside for path in _folders(cache) if path.name.startswith("models--")]


def _choice(head: str, values: list[str]) -> UserError:
    more = f" (and {len(values) - 3} more)" if len(values) > 3 else ""
    return UserError(f"{head}: pass lm.path={' or lm.path='.join(values[:3])}{more}", code=Code.WEIGHTS_MISSING)


def _hub_id(folder: Path) -> str:
    return folder.name.removeprefix("models--").replace("--", "/", 1)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    folders = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path, _ in zip(folders, range(MOST_FOLDERS), strict=False))


def _reference(folder: Path, name: str) -> str | None:
    """The commit of a branch or tag in a hub cache."""
    file = folder / name
    try:
        return read_text(file, most=LONGEST_REVISION).strip() if file.is_relative_to(folder) else None
    except (OSError, ValueError):
        return None
