"""Filters for messages of bitsandbytes and torchao, set before transformers and peft import these packages."""

import logging


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
