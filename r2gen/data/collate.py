"""Batches: views and reports of several examples, padded to the longest, with masks of what is not padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from r2gen.data.context import BatchContext, collate_contexts
from r2gen.data.dataset import Example

# B batch, N prior studies with images, R = B + N, V views, H height, W width, T tokens
NO_TARGET = -100


@dataclass(frozen=True)
class Batch:
    """Several studies as tensors."""

    ids: tuple[str, ...]
    images_RVHW: torch.Tensor  # uint8, of the studies and behind them of prior studies; missing views are zeros
    views_RV: torch.Tensor  # bool, True for views that exist
    report_BT: torch.Tensor  # int64 ids, right-padded with NO_TARGET
    context: BatchContext | None = None  # what the prompts have besides the images

    @property
    def target_tokens(self) -> int:
        """Number of tokens in the loss: every report token and the EOS tokens."""
        return int((self.report_BT != NO_TARGET).sum())

    def to(self, device: torch.device) -> "Batch":
        """The images on the device. All lengths stay on the CPU, where they are read without waiting for a GPU."""
        return replace(self, images_RVHW=self.images_RVHW.to(device, non_blocking=True))


def collate(examples: Sequence[Example]) -> Batch:
    """The examples as one batch, on the CPU."""
    contexts = [example.context for example in examples if example.context is not None]
    images = [example.images_VHW for example in examples]
    images += [context.prior_VHW for context in contexts if context.prior_VHW is not None]
    return Batch(
        ids=tuple(example.id for example in examples),
        images_RVHW=pad_sequence(images, batch_first=True),
        views_RV=pad_sequence([torch.ones(len(views), dtype=torch.bool) for views in images], batch_first=True),
        report_BT=pad_sequence(
            [example.report_T for example in examples], batch_first=True, padding_value=float(NO_TARGET)
        ),
        context=collate_contexts(contexts) if contexts else None,
    )


def moved(index: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small tensor on the device; a GPU gets it without waiting."""
    if device.type != "cuda" or index.device == device:
        return index.to(device)
    return index.pin_memory().to(device, non_blocking=True)
