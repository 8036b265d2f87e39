"""Chest phantoms: studies of a frontal and a lateral image drawn at run time, with exactly known findings."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from r2gen.data.reports import SPLITS, Study, digest_of
from r2gen.errors import UserError

if TYPE_CHECKING:
    from PIL import Image  # a command computes the digest of phantoms without numpy and Pillow

VERSION = 1  # raise if an image or a report of the same seed changes; conf/data/phantom.yaml contains it too
MOST_STUDIES, LARGEST_PX = 1_000_000, 4096
STORED_BYTES = 2**26  # of images that are not drawn twice: training, evaluation and the nearest baseline read the same


class Phantom:
    """Studies that depend on (seed, split, number) only: more studies do not change the earlier ones.

    Each image is drawn when it is first read (about a millisecond), size_px pixels square.
    """

    section = "whole"
    cleaner = "none"
    phantom_wording = True

    def __init__(
        self, *, seed: int = 0, train_studies: int, val_studies: int, test_studies: int, size_px: int, version: int
    ) -> None:
        check_drawing(version=version, drawn=VERSION, size_px=size_px)
        self._counts = checked_counts(seed, train_studies, val_studies, test_studies)
        self.seed = seed
        self.size_px = size_px
        self._studies: dict[str, Sequence[Study]] = {}  # those that were drawn, by split
        self._images: dict[str, Image.Image] = {}  # by view

    @classmethod
    def digest(cls, arguments: Mapping[str, Any]) -> str:
        """16 hex digits of all arguments, since they decide every study."""
        return digest_of(cls, arguments)

    def check(self) -> None:
        """Do nothing: every image can be drawn."""

    def splits(self) -> None:
        """None: a study is drawn from the name of its split and its number."""

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of one split, numbered from 0, with ids like "train-00017"."""
        if split not in self._studies:
            from r2gen.data.phantom_studies import draw_study

            self._studies[split] = [draw_study(self.seed, split, number) for number in range(self._counts[split])]
        return self._studies[split]

    def image(self, view: str, *, at_least_px: int | None = None) -> "Image.Image":
        """The image of a view name like "train-00017-frontal", always size_px pixels square."""
        from r2gen.data.phantom_studies import draw_image

        return stored_image(self._images, view, lambda: draw_image(self.seed, view, self.size_px))


def check_drawing(*, version: int, drawn: int, size_px: int) -> None:
    """Raise UserError if this code draws another version, or no image of this size."""
    if version != drawn:
        raise UserError(f"data.version={version}: this code draws version {drawn}. Set data.version={drawn}.")
    if size_px > LARGEST_PX:
        raise UserError(f"data.size_px={size_px}: a phantom image may have at most {LARGEST_PX:,} pixels.")
    if size_px < 32:
        raise UserError(f"data.size_px={size_px}: a phantom image needs at least 32 pixels.")


def checked_counts(seed: int, train_studies: int, val_studies: int, test_studies: int) -> dict[str, int]:
    """The number of studies of each split. Raises UserError if one, or the seed, cannot be used."""
    if train_studies == 0:
        raise UserError("data.train_studies=0: training needs at least 1 study.")
    for name, number in (
        ("seed", seed),
        ("train_studies", train_studies),
        ("val_studies", val_studies),
        ("test_studies", test_studies),
    ):
        if number < 0:
            raise UserError(f"data.{name}={number} must not be negative.")
        if number > MOST_STUDIES and name != "seed":
            raise UserError(f"data.{name}={number}: the limit is {MOST_STUDIES:,}.")
    return dict(zip(SPLITS, (train_studies, val_studies, test_studies), strict=True))


def stored_image(images: "dict[str, Image.Image]", view: str, draw: "Callable[[], Image.Image]") -> "Image.Image":
    """A copy of the image of a view. One that is not in `images` is drawn, and put there while there is room."""
    image = images.get(view)
    if image is None:
        image = draw()
        if (len(images) + 1) * image.width * image.height <= STORED_BYTES:
            images[view] = image
    return image.copy()
