"""Filters for messages of bitsandbytes and torchao, set before transformers and peft import these packages."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Without(logging.Filter):
    """Drop the records of a logger that contain a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self.text not in str(record.msg)


for _logger, _text in (
    ("bitsandbytes.autograd._functions", "inputs will be cast"),  # for each matrix product: int8 is made from fp16
    ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit"),  # a kernel on the hub, which is not fetched
    ("torch.utils._pytree", "is an Enum subclass"),  # about torchao
):
    logging.getLogger(_logger).addFilter(_Without(_text))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress transformers' warnings, its progress bar and its table of tensors."""
    from transformers.utils import logging as transformers_logging

    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
