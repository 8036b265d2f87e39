"""Image -> the gray square an encoder looks at."""

import numpy as np
import torch
from PIL import Image


class ImageTransform:
    """Resize an image to a square, bicubic, squashed as R2GenGPT does (its feature extractor keeps no aspect ratio)."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """uint8 [size_px, size_px] from an image of any size and mode."""
        gray = image.convert("L")
        if gray.size != (self.size_px, self.size_px):
            gray = gray.resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(gray))
