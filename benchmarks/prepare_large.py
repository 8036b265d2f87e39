"""Prepare 160,000 studies in published layouts; prints seconds and the peak of the memory.

    PYTHONPATH=. python benchmarks/prepare_large.py [FOLDER] [--studies 160000] [--layouts rexgradient,padchest,...]

Writes the layouts to FOLDER (default: a temporary folder) with invented texts; every image is a hard link to one of a
few small files. Then `python run.py task=prepare` runs on each in a process of its own.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from large_annotation import report
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))
import chexpert_plus_tree
import mimic_tree
import padchest_tree
import rexgradient_tree

ROOT = Path(__file__).resolve().parent.parent
LINKS = 30_000  # of one file: a file system allows a limited number


class Links:
    """Makes files that are hard links to a few images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.image = folder, 0, folder

    def __call__(self, file: Path) -> None:
        if self.count % LINKS == 0:
            self.image = self.folder / f"{self.count}.png"
            Image.new("L", (8, 8)).save(self.image)
        os.link(self.image, file)
        self.count += 1


def write_rexgradient(root: Path, studies: int) -> None:
    """The metadata, and images in a folder for each thousand studies instead of seven for each, to spare the disk."""
    draw, link = random.Random(0), Links(root)

    def entries(numbers: range) -> Iterator[tuple[str, Any]]:
        for number in numbers:
            key, entry = rexgradient_tree.study(number * 2 // 3, number % 2, findings=report(draw))
            folder = f"deid_png/{number // 1000}"
            entry["ImagePath"] = [f"../{folder}/{number}.{index}.png" for index in range(len(entry["ImagePath"]))]
            (root / folder).mkdir(parents=True, exist_ok=True)
            for path in entry["ImagePath"]:
                link(root / path.removeprefix("../"))
            yield key, entry

    ends = [0, studies * 7 // 8 // 6 * 6, studies * 15 // 16 // 6 * 6, studies]  # a patient belongs to one split
    parts = zip(("train", "valid", "test"), ends, ends[1:], strict=False)
    rexgradient_tree.write_metadata(root, {split: entries(range(*part)) for split, *part in parts})


def write_padchest(root: Path, studies: int) -> None:
    draw, link = random.Random(0), Links(root)
    for folder in range(55):
        (root / str(folder)).mkdir()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(studies):
            text = report(draw).lower()
            for index in range(1 + number % 2):
                row = padchest_tree.padchest_row(number * 2 // 3, number % 2, index, report=text)
                link(root / str(row["ImageDir"]) / row["ImageID"])
                yield row

    padchest_tree.write_padchest_table(root, rows())


def write_chexpert_plus(root: Path, studies: int) -> None:
    draw, link = random.Random(0), Links(root)

    def rows() -> Iterator[dict[str, str]]:
        for study in range(studies):
            split = "valid" if study // 3 % 300 == 0 else "train"
            folder = f"{split}/patient{study // 3:05d}/study{study % 3 + 1}"
            (root / "PNG" / folder).mkdir(parents=True)
            text = report(draw)
            for view, kind in enumerate(("frontal", "lateral")[: 1 + study % 2], start=1):
                path = f"{folder}/view{view}_{kind}"
                link(root / "PNG" / f"{path}.png")
                cells = {"patient": study // 3, "number": study % 3 + 1, "kind": kind, "split": split}
                yield chexpert_plus_tree.row(path, text, **cells)

    chexpert_plus_tree.write_table(root / "df_chexpert_plus_240401.csv", rows())


def write_mimic_cxr(root: Path, studies: int) -> None:
    draw, link = random.Random(0), Links(root)
    split_rows, metadata_rows = [], []
    for number in range(studies):
        subject, study = f"1{number // 3:07d}", f"5{number:07d}"
        folder = root / "files" / f"p{subject[:2]}" / f"p{subject}"
        (folder / f"s{study}").mkdir(parents=True)
        layout = mimic_tree.LAYOUTS[number % len(mimic_tree.LAYOUTS)]
        (folder / f"s{study}.txt").write_text(layout.format(findings=report(draw), impression=report(draw)))
        split = {0: "validate", 1: "test"}.get(number // 3 % 100, "train")
        for view in ("PA", "LATERAL")[: 1 + number % 2]:
            image = f"{draw.randbytes(20).hex()}"
            link(folder / f"s{study}" / f"{image}.jpg")
            split_rows.append((image, study, subject, split))
            date, time_of_day = mimic_tree.TAKEN[number % 3]
            metadata_rows.append((image, subject, study, "CHEST", view, 8, 8, date, time_of_day, ""))
    mimic_tree.write_table(root / "mimic-cxr-2.0.0-split.csv.gz", mimic_tree.SPLIT_COLUMNS, split_rows)
    mimic_tree.write_table(root / "mimic-cxr-2.0.0-metadata.csv.gz", mimic_tree.METADATA_COLUMNS, metadata_rows)


WRITERS = {
    "rexgradient": write_rexgradient,
    "padchest": write_padchest,
    "chexpert_plus": write_chexpert_plus,
    "mimic_cxr": write_mimic_cxr,
}


def main(folder: Path, studies: int, layouts: list[str]) -> None:
    for name in layouts:
        root = folder / name
        if not root.is_dir():
            root.mkdir(parents=True)
            WRITERS[name](root, studies)
        began = time.monotonic()
        words = ["task=prepare", f"data={name}", f"data.root={root}", "fresh=true"]
        process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *words])
        _, status, used = os.wait4(process.pid, 0)
        size = (root / "annotation.json").stat().st_size / 2**20
        print(
            f"{name}: {time.monotonic() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU, "
            f"{used.ru_maxrss / 2**20:.2f} GiB at most, annotation {size:,.0f} MiB, status {status}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--studies", type=int, default=160_000)
    parser.add_argument("--layouts", type=lambda text: text.split(","), default=list(WRITERS))
    options = parser.parse_args()
    if options.folder:
        main(options.folder, options.studies, options.layouts)
    else:
        with tempfile.TemporaryDirectory() as top:
            main(Path(top), options.studies, options.layouts)
