"""A checkpoint of R2GenGPT's own program, read without running code from it.

It is a pickle of {"model": the trainable tensors, "config": the options, "epoch", "step"}; Lightning makes the options
an AttributeDict. torch.load(weights_only=True) admits only tensors and plain data. The one class AttributeDict, under
each name that Lightning has given it, is read as an OrderedDict, the only kind of dictionary that torch fills.
Lightning need not be installed, and nothing of it is imported.
"""

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from r2gen.config.plain import Plain
from r2gen.errors import UserError
from r2gen.runs.untrusted import refuse_compressed

ATTRIBUTE_DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
KEYS = {"model", "config", "epoch", "step"}
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, KeyError, AttributeError, TypeError)


@dataclass(frozen=True)
class Original:
    """What R2GenGPT saved: trainable tensors under its own names (fp32), and its options."""

    tensors: dict[str, torch.Tensor]
    options: Plain
    epoch: int
    step: int


def read_checkpoint(file: Path) -> Original:
    """Raises UserError if the file is not a checkpoint of R2GenGPT, is damaged, or contains code."""
    if not file.is_file():
        raise UserError(f"checkpoint={file} is not a file. Pass one that R2GenGPT saved, checkpoint_....pth")
    try:
        with torch.serialization.safe_globals([(OrderedDict, name) for name in ATTRIBUTE_DICTS]):
            refuse_compressed(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint={file} is damaged, or holds more than tensors and plain options, and is not read: "
            f"{_refused_class(error)}"
        ) from error
    except DAMAGED as error:
        raise UserError(f"checkpoint={file} cannot be read: {_first_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(
            f'checkpoint={file} has no "model" with tensors by name: it is not one of R2GenGPT\'s '
            "(checkpoint_epoch..._step..._bleu..._cider....pth)"
        )
    unknown = sorted(str(key) for key in content.keys() - KEYS)
    if unknown:
        raise UserError(
            f"checkpoint={file} holds {', '.join(unknown)} besides model, config, epoch and step: it is "
            "not one of R2GenGPT's"
        )
    options = content.get("config") or {}
    if not isinstance(options, dict):
        raise UserError(f'checkpoint={file}: its "config" is a {type(options).__name__}, not options by name')
    return Original(
        _checked_tensors(content["model"], file),
        dict(options),
        _count(content, "epoch", file),
        _count(content, "step", file),
    )


def _checked_tensors(tensors: dict[object, object], file: Path) -> dict[str, torch.Tensor]:
    checked = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(f"checkpoint={file}: model[{name!r}] is a {type(tensor).__name__}, not a tensor by name")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise UserError(f"checkpoint={file}: {name} is sparse or quantised, not a plain tensor")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"checkpoint={file}: {name} holds NaN or infinite values")
        checked[name] = tensor.float() if tensor.is_floating_point() else tensor
    return checked


def _count(content: Plain, key: str, file: Path) -> int:
    value = content.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"checkpoint={file}: {key} is {value!r}, not a whole number")
    return value


def _refused_class(error: Exception) -> str:
    """The class in the file that torch refuses, from its message, which also explains how to load the file anyway."""
    text = str(error).partition("WeightsUnpickler error:")[2].strip()
    return (text.splitlines() or ["it is not a pickle that torch wrote"])[0].partition(" was not an allowed")[0]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
