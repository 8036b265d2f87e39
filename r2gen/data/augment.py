"""Random changes to training images. None of them mirrors an image: the heart is on the left."""

from collections.abc import Callable

import torch

# H height, W width


def augmentation(
    *, shift: float, degrees: float, scale: float, brightness: float, contrast: float
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A function that changes a uint8 image [H, W] at random, or None where every largest change is 0.

    Its numbers are torch's, so that the caller's seed decides them.
    """
    if not any((shift, degrees, scale, brightness, contrast)):
        return None
    from torchvision.transforms import v2  # which takes half a second

    geometry = v2.RandomAffine(
        degrees,
        translate=(shift, shift),
        scale=(1 - scale, 1 + scale),
        interpolation=v2.InterpolationMode.BILINEAR,
    )

    def augment(image_HW: torch.Tensor) -> torch.Tensor:
        if shift or degrees or scale:
            image_HW = geometry(image_HW[None])[0]
        return with_levels(image_HW, brightness, contrast) if brightness or contrast else image_HW

    return augment


def with_levels(image_HW: torch.Tensor, brightness: float, contrast: float) -> torch.Tensor:
    """The image with factors of brightness and contrast drawn from 1 - largest to 1 + largest change.

    torchvision's ColorJitter rounds the mean differently with another number of threads; a sum of integers is exact.
    """
    change_2 = 1 + (2 * torch.rand(2) - 1) * torch.tensor([brightness, contrast])
    mean = image_HW.sum() / image_HW.numel()
    levels_HW = (mean + (image_HW - mean) * change_2[1]) * change_2[0]
    return levels_HW.round().clamp(0, 255).to(torch.uint8)
