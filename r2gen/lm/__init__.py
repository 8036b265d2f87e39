"""Language models: `load_lm` reads a checkpoint, `random_lm` draws one, `train_tokenizer` makes the latter's tokenizer.

The names are fetched when first used, since run.py reads `r2gen.config.check.decoding` and must not import torch.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2gen.lm.load import load_lm, random_lm
    from r2gen.lm.prompt import Prompt
    from r2gen.lm.protocol import Generated, LanguageModel
    from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, save_tokenizer, train_tokenizer

__all__ = [
    "Generated",
    "LanguageModel",
    "Prompt",
    "ReportTokenizer",
    "load_lm",
    "random_lm",
    "read_tokenizer",
    "save_tokenizer",
    "train_tokenizer",
]

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


class _Without(logging.Filter):
    """Lets all records of a logger pass but those with a text that is no news here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self.text not in str(record.msg)


# Here, since transformers and peft import bitsandbytes and torchao by themselves, where they are installed.
for _logger, _text in (
    ("bitsandbytes.autograd._functions", "inputs will be cast"),  # once a matrix product: int8 is made from fp16
    ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit"),  # a kernel on the hub: nothing is fetched here
    ("torch.utils._pytree", "is an Enum subclass"),  # what torch says of torchao
):
    logging.getLogger(_logger).addFilter(_Without(_text))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
