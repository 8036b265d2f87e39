"""The features of images under a frozen encoder, computed once per training instead of once per epoch."""

from collections.abc import Callable, Hashable, Sequence

import torch

from r2gen.data.collate import moved

# N images of a batch, I images of all training studies, P patches of an image, D encoder width

Encode = Callable[[torch.Tensor], torch.Tensor]  # images [N, H, W] -> features [N, P, D]


class FeatureCache:
    """The features of up to `images` images, on the device of the encoder."""

    def __init__(self, images: int) -> None:
        self.images = images
        self._rows: dict[Hashable, int] = {}
        self._features_IPD: torch.Tensor | None = None

    def features(self, keys: Sequence[Hashable], images_NHW: torch.Tensor, encode: Encode) -> torch.Tensor:
        """The features [N, P, D] of the images with these keys; those that are new are encoded."""
        new = {key: number for number, key in enumerate(keys) if key not in self._rows}
        if new:
            with torch.no_grad():
                features_NPD = encode(images_NHW if len(new) == len(keys) else images_NHW[list(new.values())])
            if self._features_IPD is None:
                self._features_IPD = features_NPD.new_empty(self.images, *features_NPD.shape[1:])
            first = len(self._rows)
            self._features_IPD[first : first + len(new)] = features_NPD
            self._rows |= {key: first + place for place, key in enumerate(new)}
        assert self._features_IPD is not None
        rows_N = torch.tensor([self._rows[key] for key in keys])
        return self._features_IPD.index_select(0, moved(rows_N, self._features_IPD.device))
