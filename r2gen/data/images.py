"""A film from its file: whatever the PNG or JPEG holds becomes 8-bit gray. Imports no torch."""

import warnings
from pathlib import Path

from PIL import Image

from r2gen.errors import UserError

_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises on bad bytes


def read_film(path: Path) -> Image.Image:
    """The film at its own size, 8-bit gray (mode L).

    16-bit gray is scaled by the full range of its format (65535 is white), never by the film's own darkest and
    brightest pixel; transparent pixels are black, as a film's border is. Raises UserError on a missing or broken file.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", UserWarning)  # Pillow on a palette's transparency: handled in to_gray
            image.load()
            return to_gray(image)
    except FileNotFoundError as error:
        raise UserError(f"film {path} does not exist") from error
    except _BROKEN as error:
        raise UserError(f"film {path} cannot be read ({error}): it is broken, or no PNG or JPEG") from error


def to_gray(image: Image.Image) -> Image.Image:
    """An image of any mode as read_film gives it. Raises ValueError where its white is unknown."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _gray_from_16_bit(image.convert("I"))
    if image.mode == "F":
        raise ValueError("it holds floating-point values, whose white is unknown")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, with_alpha).convert("L")
    return image.convert("L")


def _gray_from_16_bit(image: Image.Image) -> Image.Image:
    darkest, brightest = image.getextrema()
    if not (isinstance(darkest, int) and isinstance(brightest, int) and darkest >= 0 and brightest <= 65535):
        raise ValueError(f"its values run from {darkest} to {brightest}, more than 16 bits hold")
    # Image.point on mode I takes a scale and an offset only; 257 = 65535 / 255, and .5 rounds to the nearest.
    return image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
