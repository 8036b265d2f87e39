"""Padding of prompts: moving it to one side, and positions that do not count it."""

import torch

from r2gen.data.collate import moved

# B batch, T positions of the prompt, E width of the language model


def left_pad(embeds_BTE: torch.Tensor, mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the real positions of each prompt to its right end, in their order.

    The mask becomes integers, on the device of the embeddings. ALiBi and sliding windows count columns: afterwards
    these are the distances between real positions.
    """
    return _reorder(embeds_BTE, mask_BT, mask_BT.long().argsort(dim=1, stable=True))


def right_pad(embeds_BTE: torch.Tensor, mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the real positions of each prompt to its left end, in their order; the mask as in left_pad."""
    return _reorder(embeds_BTE, mask_BT, mask_BT.long().argsort(dim=1, stable=True, descending=True))


def longest_prompt(mask_BT: torch.Tensor) -> int:
    """The length of the longest prompt; synchronises with the device. Raises ValueError if a prompt is empty."""
    lengths_B = mask_BT.long().sum(dim=1)
    if not bool((lengths_B > 0).all()):
        raise ValueError("a prompt without a single real position")
    return int(lengths_B.max())


def _reorder(
    embeds_BTE: torch.Tensor, mask_BT: torch.Tensor, order_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    device, mask_BT = embeds_BTE.device, mask_BT.long().gather(1, order_BT)
    order_BTE = moved(order_BT, device)[:, :, None].expand(-1, -1, embeds_BTE.shape[2])
    return embeds_BTE.gather(1, order_BTE), moved(mask_BT, device)


def positions(mask_BT: torch.Tensor) -> torch.Tensor:
    """The position of each token among the real ones of its sequence; padding gets the position before it, or 0."""
    return (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)
