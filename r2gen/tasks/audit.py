"""task=audit: what a data set holds, and what of its test stands in its training. No rank, and no torch.

    python run.py task=audit data=iu_xray data.root=/data/iu_xray

Prints a table and writes audit.json. Ids, studies and patients that stand in two splits are refused by the data set
itself; reports and images that do are counted here.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev, quantiles
from typing import Any

from PIL import ImageStat
from tqdm import tqdm

from r2gen.config.schema import Config
from r2gen.config.targets import instantiate
from r2gen.data.reports import SPLITS, DataSource, ReportData, Study, data_digest
from r2gen.errors import DONE
from r2gen.evaluate.tables import aligned
from r2gen.runs.files import absolute, take_folder, write_whole

THREADS = 8  # Pillow decodes without the interpreter's lock
DARK = 8  # gray: an image whose brightest pixel is below it shows nothing


@dataclass(frozen=True)
class Reports:
    """The reports of one split; a report is compared word by word, as it is scored (cleaned, white space apart)."""

    studies: int
    distinct: int
    most_common: int  # how often the most frequent report stands here
    in_training: int  # studies whose report stands word for word in training; of training itself, those told twice
    words: dict[str, float]  # a report: "5 %", "median", "95 %", "longest"
    unknown_words: float | None  # share of the words that no training report has
    unknown_different: float | None  # share of the different words that no training report has


@dataclass(frozen=True)
class Images:
    """The images looked at of one split, at their own size and in 8-bit gray."""

    images: int
    looked_at: int
    views: dict[str, int]  # number of images of a study to how many studies have it
    shortest_px: int  # the shortest and the longest side of any image
    longest_px: int
    gray_mean: float
    gray_deviation: float  # of the images' means
    blank: int  # nothing brighter than DARK
    same: int  # images whose pixels another image of the split has too
    in_training: int  # images whose pixels an image of training has; 0 for training itself


@dataclass(frozen=True)
class Image:
    """One image: a digest of its size and pixels, and what they are."""

    digest: str
    sides_px: tuple[int, int]
    mean: float
    brightest: int


def audit(config: Config, overrides: list[str]) -> int:
    """Audit the data set, print the table, write outputs/audit-<data>-<hash>/audit.json; gives the exit status."""
    target, images = config.data, config.audit.films
    if "root" in target.arguments:
        target = target.with_arguments(root=absolute(target.arguments["root"]))
    data: DataSource = instantiate(target)
    data.check()
    digest = data_digest(target)
    found = {
        "data": config.choices["data"],
        "hash": digest,
        "section": data.section,
        "cleaner": data.cleaner,
        "named": data.splits(),
        **looked_through(data, images=images),
    }
    print(table(found))
    if config.out is None:
        folder = Path(absolute(f"outputs/audit-{config.choices['data']}-{digest[:8]}"))
    else:
        folder = Path(absolute(config.out))
    take_folder(folder, option="out", known_by="audit.json")
    write_whole(folder / "audit.json", json.dumps(found, indent=1) + "\n")
    print(f"\nwritten: {folder / 'audit.json'}")
    return DONE


def looked_through(data: ReportData, *, images: int | None) -> dict[str, Any]:
    """Reports and images of every split that has studies, and the ids whose report stands in training.

    `images`: how many of a split are looked at at most, of evenly spread studies; None: all. Raises UserError where a
    image cannot be read.
    """
    splits = {split: data.studies(split) for split in SPLITS if data.studies(split)}
    train = splits.get("train", ())
    known = Counter(joined(study) for study in train)
    vocabulary = {word for report in known for word in report.split()}
    seen: set[str] = set()  # the pixels of training's images
    entries: dict[str, Any] = {}
    for split, studies in splits.items():
        count = sum(len(study.views) for study in studies)
        # Whole studies: every second image would be frontal images alone.
        looked = studies if images is None else [] if images == 0 else studies[:: -(-count // images)]
        found = look_at(data, [view for study in looked for view in study.views], title=split)
        entries[split] = {
            "reports": asdict(of_reports(studies, known, vocabulary, train=split == "train")),
            "images": asdict(of_images(studies, found, seen)) if found else None,
            "ids_in_training": [] if split == "train" else [one.id for one in studies if joined(one) in known],
        }
        if split == "train":
            seen = {image.digest for image in found}
    return {"splits": entries, "most_common": {"report": known.most_common(1)[0][0] if known else None}}


def joined(study: Study) -> str:
    return " ".join(study.report.split())


def of_reports(studies: Sequence[Study], known: Counter[str], vocabulary: set[str], *, train: bool) -> Reports:
    """Of at least one study."""
    texts = [joined(study) for study in studies]
    own = Counter(texts)
    words = Counter(word for text in texts for word in text.split())
    unknown = [word for word in words if word not in vocabulary]
    lengths = sorted(len(text.split()) for text in texts)
    twentieths = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else lengths * 19
    return Reports(
        studies=len(texts),
        distinct=len(own),
        most_common=max(own.values()),
        in_training=sum(known[text] > 1 if train else text in known for text in texts),
        words={"5 %": twentieths[0], "median": twentieths[9], "95 %": twentieths[18], "longest": lengths[-1]},
        unknown_words=sum(words[word] for word in unknown) / max(1, words.total()) if vocabulary else None,
        unknown_different=len(unknown) / max(1, len(words)) if vocabulary else None,
    )


def of_images(studies: Sequence[Study], found: Sequence[Image], seen: set[str]) -> Images:
    """Of at least one image; `seen` are the digests of training's images."""
    digests = Counter(image.digest for image in found)
    views = Counter(len(study.views) for study in studies)
    return Images(
        images=sum(count * number for count, number in views.items()),
        looked_at=len(found),
        views={str(count): views[count] for count in sorted(views)},
        shortest_px=min(min(image.sides_px) for image in found),
        longest_px=max(max(image.sides_px) for image in found),
        gray_mean=fmean(image.mean for image in found),
        gray_deviation=pstdev(image.mean for image in found),
        blank=sum(image.brightest < DARK for image in found),
        same=sum(count for count in digests.values() if count > 1),
        in_training=sum(image.digest in seen for image in found),
    )


def look_at(data: ReportData, views: Sequence[str], *, title: str) -> list[Image]:
    def look(view: str) -> Image:
        image = data.image(view)
        digest = hashlib.blake2b(f"{image.size} ".encode() + image.tobytes(), digest_size=16).hexdigest()
        return Image(digest, image.size, ImageStat.Stat(image).mean[0], int(image.getextrema()[1]))  # type: ignore[arg-type]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(tqdm(pool.map(look, views), desc=title, total=len(views), unit="image", disable=None, leave=False))


def table(found: dict[str, Any]) -> str:
    """What audit.json holds, for a terminal."""
    splits = found["splits"]
    rows = [("", *splits), *_rows([one["reports"] for one in splits.values()], _REPORT_ROWS)]
    if all(one["images"] for one in splits.values()):
        rows += _rows([one["images"] for one in splits.values()], _IMAGE_ROWS)
    head = f"data={found['data']}: hash {found['hash']}, section {found['section']}, cleaner {found['cleaner']}"
    return "\n".join([head, "", aligned(rows, pad=str.rjust), "", *_disjoint(found), *_most_common(found)])


def _rows(entries: list[dict[str, Any]], rows: Iterable[tuple[str, Any]]) -> list[tuple[str, ...]]:
    return [(name, *(cell(entry) for entry in entries)) for name, cell in rows]


def _share(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.1%})"


def _percent(share: float | None, places: int) -> str:
    """`-` where there are no training studies to compare with."""
    return "-" if share is None else f"{share:.{places}%}"


_REPORT_ROWS: tuple[tuple[str, Any], ...] = (
    ("studies", lambda one: f"{one['studies']:,}"),
    ("different reports", lambda one: f"{one['distinct']:,}"),
    ("the most frequent report, times", lambda one: f"{one['most_common']:,}"),
    ("reports that stand in training (again)", lambda one: _share(one["in_training"], one["studies"])),
    (
        "words a report: median (5 to 95 %)",
        lambda one: f"{one['words']['median']:.0f} ({one['words']['5 %']:.0f} to {one['words']['95 %']:.0f})",
    ),
    ("words of the longest", lambda one: f"{one['words']['longest']:,}"),
    ("words unknown to training", lambda one: _percent(one["unknown_words"], 2)),
    ("different words unknown to training", lambda one: _percent(one["unknown_different"], 1)),
)
_IMAGE_ROWS: tuple[tuple[str, Any], ...] = (
    ("images", lambda one: f"{one['images']:,}"),
    ("images of a study: studies", lambda one: ", ".join(f"{views}: {n:,}" for views, n in one["views"].items())),
    ("images looked at", lambda one: f"{one['looked_at']:,}"),
    ("shortest and longest side, pixels", lambda one: f"{one['shortest_px']}, {one['longest_px']}"),
    ("mean gray (deviation between images)", lambda one: f"{one['gray_mean']:.0f} ({one['gray_deviation']:.0f})"),
    ("images without light", lambda one: f"{one['blank']:,}"),
    ("images that are there twice", lambda one: f"{one['same']:,}"),
    ("images that stand in training", lambda one: f"{one['in_training']:,}"),
)


def _disjoint(found: dict[str, Any]) -> list[str]:
    """What was compared between the splits: what is the same in two of them has been refused before."""
    named = found["named"]
    if named is None:
        return ["splits: studies are drawn from the split's name and a number, none twice"]
    lines = ["splits: no id stands in two"]
    for key, what in (("study_id", "study"), ("subject_id", "patient")):
        count = named[key]
        lines.append(
            f"splits: {'no' if count == named['entries'] else 'unknown whether a'} {what} stands in two "
            f"({key} in {count:,} of {named['entries']:,} entries)"
        )
    return lines


def _most_common(found: dict[str, Any]) -> list[str]:
    report = found["most_common"]["report"]
    return [] if report is None else [f"the most frequent report of training: {report[:300]}"]
