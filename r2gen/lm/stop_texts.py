"""Texts that end a report although they are not single tokens (`lm.stop`)."""

from typing import Any

import torch
from transformers import StoppingCriteria

from r2gen.lm.tokenizer import ReportTokenizer

# N sequences, G tokens


class StopTexts(StoppingCriteria):
    """Ends each sequence whose text contains a stop text. It waits for the device and decodes on the host.

    `skip` is the number of ids before the first generated token (1 for an encoder-decoder).
    """

    def __init__(self, tokenizer: ReportTokenizer, *, skip: int) -> None:
        self.tokenizer, self.skip = tokenizer, skip

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        texts = (self.tokenizer.decode(ids_G) for ids_G in input_ids[:, self.skip :].tolist())
        return torch.tensor([self.tokenizer.cut(text)[1] for text in texts], device=input_ids.device)
