"""Language models: `load_lm` reads a checkpoint, `random_lm` draws weights, `train_tokenizer` makes their tokenizer.

These names are imported when they are used, so that a command can look at a checkpoint's files without torch.
"""

from importlib import import_module
from typing import Any

from r2gen.lm import library_logs as library_logs

_MODULES = {
    "Generated": "protocol",
    "LanguageModel": "protocol",
    "Prompt": "prompt",
    "ReportTokenizer": "tokenizer",
    "load_lm": "load",
    "random_lm": "load",
    "read_tokenizer": "tokenizer",
    "save_tokenizer": "tokenizer",
    "train_tokenizer": "tokenizer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
