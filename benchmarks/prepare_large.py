"""Prepare 160,000 studies as ReXGradient-160K and PadChest publish them; prints seconds and the peak of the memory.

    PYTHONPATH=. python benchmarks/prepare_large.py [FOLDER] [--studies 160000]

Writes both layouts to FOLDER (default: a temporary folder) with invented texts; every image is a hard link to one of a
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

from large_annotation import SENTENCES
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))
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


def report(draw: random.Random) -> str:
    return " ".join(draw.choices(SENTENCES, k=draw.randint(4, 11)))


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


def main(folder: Path, studies: int) -> None:
    for name, write in (("rexgradient", write_rexgradient), ("padchest", write_padchest)):
        root = folder / name
        if not root.is_dir():
            root.mkdir(parents=True)
            write(root, studies)
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
    options = parser.parse_args()
    if options.folder:
        main(options.folder, options.studies)
    else:
        with tempfile.TemporaryDirectory() as top:
            main(Path(top), options.studies)
