"""The data set protocols: studies with their full reference reports, and the images that the studies name."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from r2gen.config.plain import canonical
from r2gen.config.targets import Target, class_of

if TYPE_CHECKING:
    from PIL import Image  # commands that read no image do not load Pillow

SPLITS = ("train", "val", "test")
POSITIONS = ("PA", "AP", "FRONTAL", "LATERAL", "OTHER")  # FRONTAL: PA or AP, it is not known which


@dataclass(frozen=True)
class Prior:
    """An earlier examination of the same patient, as far as it is known."""

    id: str
    views: tuple[str, ...]  # as in Study; empty if its images are not there
    report: str | None = None  # cleaned as a reference is
    days: float | None = None  # from it to the study, more than 0; None if the times are unknown
    positions: tuple[str, ...] = ()  # as in Study


@dataclass(frozen=True)
class Study:
    """One examination: the images taken, and the report written about them.

    What a radiologist knows besides the images is optional. What was removed from a text stays `___` or XXXX.
    """

    id: str
    views: tuple[str, ...]  # names that ReportData.image accepts, in the data set's own order
    report: str  # the full cleaned reference; nothing in R2Gen ever cuts it
    positions: tuple[str, ...] = ()  # one of POSITIONS for each view, or "" if unknown; empty if all are unknown
    indication: str | None = None  # why the images were taken; or else the history
    technique: str | None = None
    comparison: str | None = None  # the section, such as "Chest radiograph of ___."
    age: float | None = None  # in years
    sex: Literal["F", "M"] | None = None
    prior: Prior | None = None
    findings: frozenset[str] | None = None  # the true findings ("effusion:left"); None if they are unknown
    patient: str | None = None  # by which a prior of another patient is refused
    set: str | None = None  # the data set of a mix that it is from
    weight: float = 1.0  # how often an epoch draws it


@dataclass(frozen=True)
class ImageFile:
    """The file of an image, with the `gray_bits` of images.read_image."""

    path: Path
    gray_bits: int | None = None


class ReportData(Protocol):
    """Chest images with reports, as training and evaluation read them."""

    @property
    def section(self) -> str:
        """The section of a report that is the reference, such as `findings`; `whole` for a whole report."""

    @property
    def cleaner(self) -> str:
        """The name of the cleaner that the reports went through; `none` if they are unchanged."""

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of train, val or test, always in the same order; empty if the split is."""

    def image(self, view: str, *, at_least_px: int | None = None) -> "Image.Image":
        """The image named in Study.views, 8-bit gray (mode L), at its own size in pixels.

        at_least_px is the side of the square that it will be resized to: a much larger image may come out smaller.
        """


class DataSource(ReportData, Protocol):
    """A data set that `conf/data/*.yaml` can name.

    The constructor may read the reports, but it reads no image, since every rank calls it. Three members are optional.
    A method `image_file(view)` gives the ImageFile of an image, which trainer.image_cache can then store. A class sets
    `phantom_wording = True` if metrics.phantom_findings can read its reports (`story_wording = True`:
    metrics.phantom_story), and has a static method `prepare` (see AnnotatedReports) if task=prepare can write its files
    from the layout in which the data is published.
    """

    def check(self) -> None:
        """Raise UserError if images cannot be used. Called once, before a folder is made or a rank has a job."""

    def splits(self) -> Mapping[str, int] | None:
        """Number of `entries`, and of those that name their `study_id` and `subject_id`, by which splits are compared.

        None if the studies of two splits differ by construction. An id in two splits is refused by the constructor.
        """

    @classmethod
    def digest(cls, arguments: Mapping[str, Any]) -> str:
        """16 hex digits that change with the studies, for the arguments that a configuration gives.

        The arguments are those of config.yaml, which may lack one that the class has gained since. The identity of
        existing runs depends on the digest, so it must never change for the same arguments and files.
        """


def image_file_of(data: ReportData, view: str) -> ImageFile | None:
    """The file of an image; None if the data set has no files, or a class that does not name them."""
    find: Callable[[str], ImageFile | None] | None = getattr(data, "image_file", None)
    return None if find is None else find(view)


def data_digest(data: Target) -> str:
    """The digest of the data set that the group `data` of a configuration names."""
    data_set: type[DataSource] = class_of(data)
    return data_set.digest(data.arguments)


def digest_of(data_set: type[DataSource], arguments: Mapping[str, Any], *, contents: bytes = b"") -> str:
    """16 hex digits of a class, the arguments that decide its studies, and the contents of the file it reads."""
    node = {"_target_": f"{data_set.__module__}.{data_set.__qualname__}", **arguments}
    digest = hashlib.sha256(canonical(node).encode())
    digest.update(contents)
    return digest.hexdigest()[:16]
