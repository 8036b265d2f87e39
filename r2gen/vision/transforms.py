"""The transform from an image to the gray square that an encoder reads."""

import numpy as np
import torch
from PIL import Image


class ImageTransform:
    """Bicubic resizing to a square, without keeping the aspect ratio, as in R2GenGPT's feature extractor."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """uint8 [size_px, size_px] from an image of any size and mode."""
        gray = image.convert("L")
        if gray.size != (self.size_px, self.size_px):
            gray = gray.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(gray))
