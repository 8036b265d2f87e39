"""Examples: the images of a study decoded and resized, its report as token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from r2gen.data.context import ExampleContext, StudyContext
from r2gen.data.reports import Study

# V views, H height, W width, T tokens


@dataclass(frozen=True)
class Example:
    """One study as tensors."""

    id: str
    images_VHW: torch.Tensor  # uint8 gray, every view at the encoder's size
    report_T: torch.Tensor  # int64 ids of the report and its EOS token
    context: ExampleContext | None = None


class ImageCache:
    """A cache of resized images that stops at a budget. Decoding or drawing an image takes a millisecond or more."""

    def __init__(self, load: Callable[[str], torch.Tensor], *, budget_mib: int) -> None:
        self.load = load
        self.room = budget_mib * 2**20
        self.images: dict[str, torch.Tensor] = {}

    def __call__(self, view: str) -> torch.Tensor:
        image_HW = self.images.get(view)
        if image_HW is None:
            image_HW = self.load(view)
            if self.room >= image_HW.nbytes:
                self.images[view] = image_HW
                self.room -= image_HW.nbytes
        return image_HW


class StudyDataset(Dataset[Example]):
    """The studies of one split, as examples in the data set's own order.

    `image` returns a view at the encoder's size, `encode` the token ids of a report with its EOS token, `augment`
    changes an image at random, and `context` writes what the prompt has besides the images.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        *,
        image: Callable[[str], torch.Tensor],
        encode: Callable[[str], list[int]],
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        context: StudyContext | None = None,
    ) -> None:
        self.studies = studies
        self.image = image
        self.encode = encode
        self.augment = augment
        self.context = context

    def first(self, count: int) -> "StudyDataset":
        """The first `count` studies."""
        return self._with(self.studies[:count], self.augment)

    def augmented(self, augment: Callable[[torch.Tensor], torch.Tensor] | None) -> "StudyDataset":
        """The same studies, each of whose images is changed at random whenever it is read, and never cached so."""
        return self._with(self.studies, augment)

    def of(self, studies: Sequence[Study]) -> "StudyDataset":
        """Other studies, such as the same ones with an input withheld, read in the same way."""
        return self._with(studies, self.augment)

    def images_of(self, study: Study) -> int:
        """The number of images of an example: those of the study, and of its prior study where they are used."""
        return len(study.views) + (0 if self.context is None else len(self.context.prior_views(study)))

    @property
    def weights(self) -> list[float] | None:
        """How often an epoch draws each study; None if once each."""
        weights = [study.weight for study in self.studies]
        return None if all(weight == 1 for weight in weights) else weights

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> Example:
        study = self.studies[index]
        return Example(
            id=study.id,
            images_VHW=self._images(study.views),
            report_T=torch.tensor(self.encode(study.report)),
            context=None if self.context is None else self._context(study, self.context),
        )

    def _images(self, views: Sequence[str]) -> torch.Tensor:
        images = [self.image(view) for view in views]
        if self.augment is not None:
            images = [self.augment(image_HW) for image_HW in images]
        return torch.stack(images)

    def _context(self, study: Study, context: StudyContext) -> ExampleContext:
        views = context.prior_views(study)
        return context.example(study, self._images(views) if views else None)

    def _with(self, studies: Sequence[Study], augment: Callable[[torch.Tensor], torch.Tensor] | None) -> "StudyDataset":
        return StudyDataset(studies, image=self.image, encode=self.encode, augment=augment, context=self.context)
