"""A checkpoint before any weight is read: its folder, its config.json, and whether its files are complete."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from r2gen.config.plain import Plain, flat
from r2gen.errors import Code, UserError, shown
from r2gen.lm.checkpoint_forms import (
    ADAPTER,
    CONFIG,
    adapter_advice,
    gguf_file,
    other_weights,
    refuse_file,
    refuse_folder,
    refuse_placeholders,
    snapshot_of,
)
from r2gen.runs.untrusted import parse_json, read_text, reason

SMALL_FILES = ["*.json", "*.model", "*.tiktoken", "*.jinja", "merges.txt"]
OTHER_FORMATS = ["original/*", "onnx/*", "consolidated*"]  # copies of the same weights, gigabytes each
# The files that transformers reads, in its order: one file, or an index of shards.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
MOVED = {"zai-org": "THUDM"}  # owners on the hub, now and before
LARGEST_JSON = 2**25  # bytes
LONGEST_NAME = 255  # bytes
MOST_DIGITS = 40  # transformers writes model_max_length: 1000000000000000019884624838656
# Text parts without a class of their own. Without an image the three positions of a token are equal, and so are these.
SAME_AS = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}
MOST_LAYERS, MOST_LABELS = 1000, 100_000  # transformers makes an object for each


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json, whose weights are in it or in a GGUF file."""

    folder: Path
    model_type: str
    text_type: str  # the model_type of the text part of a multimodal model; else the same
    gguf: Path | None = None


def find_checkpoint(path: str | Path, revision: str | None, *, cached: bool = False) -> Checkpoint:
    """The checkpoint in a folder, of a hub id (with `cached`, only from its local cache), or in one of the forms that
    checkpoint_forms.py reads.

    Raises UserError if it does not exist, has no config.json, or has a form that is not read.
    """
    folder = _folder(path, revision, cached)
    gguf = gguf_at(folder)
    if gguf is not None:
        from r2gen.lm.gguf import unpacked  # imports transformers

        folder = unpacked(gguf)
    elif folder.is_file():
        refuse_file(folder)
    file = folder / CONFIG
    if not file.exists():
        refuse_folder(folder)
    refuse_placeholders(small for pattern in SMALL_FILES for small in sorted(folder.glob(pattern)))
    content = read_json(file)
    for name, value in flat(content):
        most = MOST_LAYERS if "layer" in name else MOST_LABELS if name.endswith("num_labels") else math.inf
        if isinstance(value, int | float) and value > most:
            raise UserError(f"lm.path: {file} has {name}={value}: at most {most:,} are read")
    model_type, text = str(content.get("model_type")), content.get("text_config")
    if isinstance(text, dict):
        text_type = str(text.get("model_type"))
    else:  # Qwen2.5-VL is published with the fields of its text part among its own
        text_type = f"{model_type}_text" if f"{model_type}_text" in SAME_AS else model_type
    return Checkpoint(folder, model_type, text_type, gguf)


def gguf_at(path: Path) -> Path | None:
    """The GGUF file that has the weights of this file or folder; None if there are others, or none."""
    path = path.expanduser()
    has_others = any((path / name).is_file() for name in WEIGHTS)
    return None if has_others or not path.exists() else gguf_file(path)


def _folder(path: str | Path, revision: str | None, cached: bool) -> Path:
    folder = Path(path).expanduser()
    if folder.is_file():
        return folder
    if folder.is_dir():
        return folder if (folder / CONFIG).exists() else snapshot_of(folder, revision) or folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or str(path).startswith("."):
        raise _missing(f"lm.path={path}: there is no such folder; give a checkpoint's folder or a hub id (owner/name)")
    name = _name_in_cache(str(path))
    snapshot = _from_hub(name, revision, [*SMALL_FILES, "*.safetensors"], cached)
    if not any(snapshot.glob("*.safetensors")):
        snapshot = _from_hub(name, revision, [*SMALL_FILES, "*.bin"], cached)
    return snapshot


def _name_in_cache(name: str) -> str:
    """The former name of a repository that has moved, if it is in the local hub cache only under that name."""
    owner, _, repository = name.partition("/")
    former = f"{MOVED.get(owner, owner)}/{repository}"
    return former if _is_cached(former) and not _is_cached(name) else name


def _is_cached(name: str) -> bool:
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model")).is_dir()


def _from_hub(name: str, revision: str | None, patterns: list[str], cached: bool) -> Path:
    option = f"lm.path={name}" + (f", lm.revision={revision}" if revision else "")
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=OTHER_FORMATS,
                local_files_only=cached,
            )
        )
    except GatedRepoError as error:
        raise _missing(
            f"{option}: the hub requires that you accept its licence: do so on https://huggingface.co/{name}, then "
            "run `hf auth login`, and repeat with hub=online"
        ) from error
    except LocalEntryNotFoundError as error:
        fix = (
            "the hub could not be reached"
            if not (cached or constants.HF_HUB_OFFLINE)
            else "no network is used: download it once with hub=online, or set lm.path to a folder"
        )
        raise _missing(f"{option} is neither a folder nor in the local hub cache; {fix}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise _missing(f"{option}: the hub refuses to deliver it: {error}") from error


def refuse_other_family(checkpoint: Checkpoint, family: str | None) -> None:
    """Raise UserError where neither the checkpoint nor its text part has the model_type `family`; null accepts any."""
    file, model_type, text = checkpoint.folder / "config.json", checkpoint.model_type, checkpoint.text_type
    if family not in (None, model_type, text, SAME_AS.get(text)):
        part = "" if text == model_type else f", a multimodal model, whose text part is {SAME_AS.get(text, text)}"
        raise UserError(
            f"lm.family={family}, but {file} says model_type={model_type}{part}: choose the lm= of that family, use "
            f"lm=auto, or use lm.family={model_type} to keep this prompt"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights. Raises UserError that names the missing ones."""
    if (folder / ADAPTER).is_file():  # transformers would load the adapter, or the model below it
        raise UserError(f"lm.path: {folder} {adapter_advice(folder)}")
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        raise _missing(f"lm.path: {folder} has no weights: it needs one of {', '.join(WEIGHTS)}{other_weights(folder)}")
    refuse_placeholders([first])
    if first.suffix != ".json":
        return [first]
    shards = read_json(first).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"lm.path: {first} has no weight_map from tensors to files: download it again")
    names = sorted(set(shards.values()))
    for name in names:
        if not name or Path(name).name != name or "\0" in name or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
            raise UserError(f"lm.path: {first} names {shown(name)}, which is no file in {folder}: download it again")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise _missing(
            f"lm.path: {folder}: {len(missing)} of {len(names)} weight files named in {first.name} are "
            f"missing: {', '.join(missing[:5])}: download them again"
        )
    files = [folder / name for name in names]
    refuse_placeholders(files)
    return files


def _missing(message: str) -> UserError:
    return UserError(message, code=Code.WEIGHTS_MISSING)


def read_json(file: Path) -> Plain:
    """The dictionary in a JSON file, empty if there is no such file. Raises UserError if it holds something else."""
    try:
        content = parse_json(read_text(file, most=LARGEST_JSON), most_digits=MOST_DIGITS)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"lm.path: {file} is not a JSON dictionary ({reason(error)}): download it again") from error
    if not isinstance(content, dict):
        raise UserError(f"lm.path: {file} is not a JSON dictionary: download it again")
    return content
