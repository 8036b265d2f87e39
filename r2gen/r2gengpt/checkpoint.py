"""A checkpoint of R2GenGPT's own program, read without running anything in it.

It is a pickle of {"model": its trainable tensors, "config": its options, "epoch", "step"}, where Lightning makes the
options an AttributeDict. torch.load(weights_only=True) admits tensors and plain data alone. That one name, in the
spellings Lightning has given it, is read as an OrderedDict: torch fills no other kind of dictionary. Lightning need not
be installed, and nothing of it is imported.
"""

import hashlib
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2gen.errors import UserError

ATTRIBUTE_DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
KEYS = {"model", "config", "epoch", "step"}
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, KeyError, AttributeError, TypeError)


@dataclass(frozen=True)
class Original:
    """What the original saved: trainable tensors under its own names (fp32), and the options it was started with."""

    tensors: dict[str, torch.Tensor]
    options: dict[str, Any]
    epoch: int
    step: int


def read_checkpoint(file: Path) -> Original:
    """Raises UserError where the file is no checkpoint of R2GenGPT, is damaged, or asks for code to be run."""
    if not file.is_file():
        raise UserError(f"checkpoint={file} is no file: give the one that R2GenGPT saved, checkpoint_....pth")
    try:
        with torch.serialization.safe_globals([(OrderedDict, name) for name in ATTRIBUTE_DICTS]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint={file} is damaged, or holds more than tensors and plain options, and is not read: "
            f"{_asked_for(error)}"
        ) from error
    except _BROKEN as error:
        raise UserError(f"checkpoint={file} cannot be read: {_first_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(
            f'checkpoint={file} has no "model" with tensors by name: it is not one of R2GenGPT\'s '
            "(checkpoint_epoch..._step..._bleu..._cider....pth)"
        )
    unknown = sorted(str(key) for key in content.keys() - KEYS)
    if unknown:
        raise UserError(
            f"checkpoint={file} holds {', '.join(unknown)} beside model, config, epoch and step: it is "
            "not one of R2GenGPT's"
        )
    options = content.get("config") or {}
    if not isinstance(options, dict):
        raise UserError(f'checkpoint={file}: its "config" is a {type(options).__name__}, not options by name')
    return Original(
        _checked(content["model"], file), dict(options), _count(content, "epoch", file), _count(content, "step", file)
    )


def digest(file: Path) -> str:
    """The sha256 of a file, 16 hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _checked(tensors: dict[Any, Any], file: Path) -> dict[str, torch.Tensor]:
    kept = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(f"checkpoint={file}: model[{name!r}] is a {type(tensor).__name__}, not a tensor by name")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise UserError(f"checkpoint={file}: {name} is sparse or quantised, not a plain tensor")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"checkpoint={file}: {name} holds values that are not finite")
        kept[name] = tensor.float() if tensor.is_floating_point() else tensor
    return kept


def _count(content: dict[str, Any], key: str, file: Path) -> int:
    value = content.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"checkpoint={file}: {key} is {value!r}, not a whole number")
    return value


def _asked_for(error: Exception) -> str:
    """What the file wanted, out of torch's text, which advises to load it all the same."""
    text = str(error).partition("WeightsUnpickler error:")[2].strip()
    return (text.splitlines() or ["it is no pickle that torch wrote"])[0].partition(" was not an allowed")[0]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
