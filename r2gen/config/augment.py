"""The options of the group `augment`: random changes to training images."""

from dataclasses import dataclass

from r2gen.config.fields import option


@dataclass
class AugmentConfig:
    """Random changes to training images, drawn for each image; 0: none of this kind. No image is mirrored."""

    shift: float = option("largest shift in each direction, as a share of the image's size", at_least=0, at_most=0.5)
    degrees: float = option("largest rotation", at_least=0, at_most=45)
    scale: float = option("largest change of size: 0.1 draws from 0.9 to 1.1", at_least=0, at_most=0.5)
    brightness: float = option("largest change of brightness, likewise", at_least=0, at_most=0.9)
    contrast: float = option("largest change of contrast, likewise", at_least=0, at_most=0.9)
