"""Phantoms with a story: prior studies, indications that hint or mislead, findings that only the lateral image shows.

Each input knows something that no other does: the prior study what has changed, the indication of what a haze is, and
the lateral image two findings. docs/data.md has the shares.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from r2gen.data.phantom import check_drawing, checked_counts, stored_image
from r2gen.data.reports import Study, digest_of
from r2gen.errors import UserError

if TYPE_CHECKING:
    from PIL import Image  # a command computes the digest of phantoms without numpy and Pillow

    from r2gen.data.phantom_story_studies import Story

STORY_VERSION = 1  # raise if an image or a text of the same seed changes; conf/data/phantom_story.yaml contains it too


class PhantomStory:
    """Studies that depend on (seed, misleading, split, number) only: more studies do not change the earlier ones.

    `misleading` is the share of indications that name a finding which is absent. Each image is drawn when it is first
    read, size_px pixels square.
    """

    section = "whole"
    cleaner = "none"
    story_wording = True

    def __init__(
        self,
        *,
        seed: int = 0,
        train_studies: int,
        val_studies: int,
        test_studies: int,
        size_px: int,
        misleading: float = 0.2,
        version: int,
    ) -> None:
        check_drawing(version=version, drawn=STORY_VERSION, size_px=size_px)
        self._counts = checked_counts(seed, train_studies, val_studies, test_studies)
        if not 0 <= misleading <= 1:
            raise UserError(f"data.misleading={misleading}: the share of indications that mislead is between 0 and 1.")
        self.seed, self.size_px, self.misleading = seed, size_px, misleading
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
            from r2gen.data.phantom_story_studies import draw_story_study

            self._studies[split] = [
                draw_story_study(self.seed, split, number, misleading=self.misleading)
                for number in range(self._counts[split])
            ]
        return self._studies[split]

    def truth(self, study: str) -> "Story":
        """What is true of the study with this id: findings, changes, and whether its indication misleads."""
        from r2gen.data.phantom_story_studies import draw_story

        split, number = study.split("-")
        return draw_story(self.seed, split, int(number), misleading=self.misleading)

    def image(self, view: str, *, at_least_px: int | None = None) -> "Image.Image":
        """The image of a view like "train-00017-frontal" or "train-00017-prior-frontal", size_px pixels square."""
        from r2gen.data.phantom_story_studies import draw_story_image

        return stored_image(
            self._images,
            view,
            lambda: draw_story_image(self.seed, view, self.size_px, misleading=self.misleading),
        )
