"""Statistics of a data set, and the reports and images of its other splits that are also in training."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev, quantiles

from PIL import ImageStat

from r2gen.config.plain import Plain
from r2gen.data.reports import SPLITS, ReportData, Study
from r2gen.runs.progress import bar

THREADS = 8  # Pillow decodes without the interpreter's lock
DARK = 8  # gray level; an image whose brightest pixel is below it shows nothing


@dataclass(frozen=True)
class ReportStatistics:
    """The reports of one split, compared as they are scored: cleaned, and ignoring white space."""

    studies: int
    distinct: int
    most_common: int  # how often the most frequent report occurs
    in_training: int  # studies whose report is also in training; for training itself, those that share a report
    words: dict[str, float]  # words per report: "5 %", "median", "95 %", "longest"
    unknown_words: float | None  # share of the words that no training report contains
    unknown_different: float | None  # share of the different words that no training report contains


@dataclass(frozen=True)
class ImageStatistics:
    """The examined images of one split, at their own size and in 8-bit gray."""

    images: int
    looked_at: int
    views: dict[str, int]  # number of images per study to the number of such studies
    shortest_px: int  # the shortest and the longest side of any image
    longest_px: int
    gray_mean: float
    gray_deviation: float  # of the images' means
    blank: int  # images without a pixel brighter than DARK
    same: int  # images with the same pixels as another image of the split
    in_training: int  # images with the same pixels as an image of training; 0 for training itself


@dataclass(frozen=True)
class Image:
    """A digest of an image's size and pixels, and their statistics."""

    digest: str
    sides_px: tuple[int, int]
    mean: float
    brightest: int


def statistics_of(data: ReportData, *, images: int | None) -> Plain:
    """Statistics of every split that has studies, with the ids of studies whose report is in training.

    `images` is the largest number of images to examine per split, of evenly spread studies; None: all. Raises UserError
    if an image cannot be read.
    """
    splits = {split: data.studies(split) for split in SPLITS if data.studies(split)}
    train = splits.get("train", ())
    training = Counter(normalised(study) for study in train)
    vocabulary = {word for report in training for word in report.split()}
    train_digests: set[str] = set()
    entries: Plain = {}
    for split, studies in splits.items():
        count = sum(len(study.views) for study in studies)
        # Whole studies, since every second image would be a frontal one only.
        examined = studies if images is None else [] if images == 0 else studies[:: -(-count // images)]
        examined_images = examine(data, [view for study in examined for view in study.views], title=split)
        in_training = [] if split == "train" else [study.id for study in studies if normalised(study) in training]
        entries[split] = {
            "reports": asdict(report_statistics(studies, training, vocabulary, train=split == "train")),
            "images": asdict(image_statistics(studies, examined_images, train_digests)) if examined_images else None,
            "ids_in_training": in_training,
        }
        if split == "train":
            train_digests = {image.digest for image in examined_images}
    return {"splits": entries, "most_common": {"report": training.most_common(1)[0][0] if training else None}}


def normalised(study: Study) -> str:
    """The report with single spaces."""
    return " ".join(study.report.split())


def report_statistics(
    studies: Sequence[Study], training: Counter[str], vocabulary: set[str], *, train: bool
) -> ReportStatistics:
    """Statistics of at least one study; `training` and `vocabulary` are the reports and words of training."""
    texts = [normalised(study) for study in studies]
    own = Counter(texts)
    words = Counter(word for text in texts for word in text.split())
    unknown = [word for word in words if word not in vocabulary]
    lengths = sorted(len(text.split()) for text in texts)
    twentieths = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else lengths * 19
    return ReportStatistics(
        studies=len(texts),
        distinct=len(own),
        most_common=max(own.values()),
        in_training=sum(training[text] > 1 if train else text in training for text in texts),
        words={"5 %": twentieths[0], "median": twentieths[9], "95 %": twentieths[18], "longest": lengths[-1]},
        unknown_words=sum(words[word] for word in unknown) / max(1, words.total()) if vocabulary else None,
        unknown_different=len(unknown) / max(1, len(words)) if vocabulary else None,
    )


def image_statistics(studies: Sequence[Study], examined: Sequence[Image], train_digests: set[str]) -> ImageStatistics:
    """Statistics of at least one image."""
    digests = Counter(image.digest for image in examined)
    views = Counter(len(study.views) for study in studies)
    return ImageStatistics(
        images=sum(count * number for count, number in views.items()),
        looked_at=len(examined),
        views={str(count): views[count] for count in sorted(views)},
        shortest_px=min(min(image.sides_px) for image in examined),
        longest_px=max(max(image.sides_px) for image in examined),
        gray_mean=fmean(image.mean for image in examined),
        gray_deviation=pstdev(image.mean for image in examined),
        blank=sum(image.brightest < DARK for image in examined),
        same=sum(count for count in digests.values() if count > 1),
        in_training=sum(image.digest in train_digests for image in examined),
    )


def examine(data: ReportData, views: Sequence[str], *, title: str) -> list[Image]:
    """The images of the views, read in threads, with a progress bar."""

    def read(view: str) -> Image:
        image = data.image(view)
        digest = hashlib.blake2b(f"{image.size} ".encode() + image.tobytes(), digest_size=16).hexdigest()
        return Image(digest, image.size, ImageStat.Stat(image).mean[0], int(image.getextrema()[1]))  # type: ignore[arg-type]

    images = []
    with ThreadPoolExecutor(THREADS) as pool, bar(total=len(views), title=title, unit="image") as shown:
        for image in pool.map(read, views):
            images.append(image)
            shown.update()
    return images
