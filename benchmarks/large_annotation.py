"""Read and check an annotation as large as R2Gen's own for MIMIC-CXR; prints seconds of CPU and peak memory.

    PYTHONPATH=. python benchmarks/large_annotation.py [FOLDER] [--entries 276778] [--context]

Writes FOLDER/annotation.json (default: a temporary folder) in the layout of R2Gen's mimic_cxr annotation, one entry per
image, with invented reports: 270,790 entries for training, 2,130 for validation and 3,858 for testing, 173 MiB. A file
that is there already is read as it is. With --context, entries have all optional keys, and most have a prior study.
Then a new process does what a command does before it starts a rank: it computes the data hash, and reads and checks the
annotation. No image exists, so none is checked.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from r2gen.config.targets import Target, instantiate
from r2gen.data.leaks import refuse_wrong_priors
from r2gen.data.reports import data_digest

ENTRIES = {"train": 270_790, "val": 2_130, "test": 3_858}
SENTENCES = (
    "The lungs are well expanded and clear.",
    "There is no focal consolidation, pleural effusion or pneumothorax.",
    "The cardiomediastinal silhouette is within normal limits.",
    "Heart size is mildly enlarged, unchanged from ___.",
    "Lung volumes are low, with bibasilar atelectasis.",
    "A right internal jugular catheter terminates in the mid SVC.",
    "No acute osseous abnormality is identified.",
    "Small bilateral pleural effusions, left greater than right, are stable since ___ at 9:45 a.m.",
    "ET tube ends 3.2 cm above the carina.",
    "1. Mild pulmonary vascular congestion.  2. No overt edema.",
)


def write(file: Path, entries: int, *, context: bool) -> None:
    """An annotation of about `entries` entries, in one line as R2Gen's."""
    draw, whole = random.Random(0), sum(ENTRIES.values())
    number, before = 0, dict[int, str]()
    with file.open("w", encoding="utf-8") as out:
        for split, count in ENTRIES.items():
            number += 100 - number % 100  # a study or patient belongs to one split
            out.write("{" if split == "train" else ", ")
            out.write(f'"{split}": [')
            for index in range(max(1, count * entries // whole)):
                out.write(", " if index else "")
                study = entry(draw, number, split)
                if context:
                    add_context(study, before)
                out.write(json.dumps(study))
                number += 1
            out.write("]")
        out.write("}")


def entry(draw: random.Random, number: int, split: str) -> dict[str, Any]:
    """One image as R2Gen describes it; two or three images in a row belong to one study."""
    subject, study = 10_000_032 + number // 10, 50_000_014 + number * 2 // 5
    name = "-".join(f"{draw.getrandbits(32):08x}" for _ in range(5))
    return {
        "id": name,
        "study_id": study,
        "subject_id": subject,
        "report": " " + textwrap.fill(report(draw), 78).replace("\n", "\n "),  # with line breaks, as MIMIC's
        "image_path": [f"p{subject // 1_000_000}/p{subject}/s{study}/{name}.jpg"],
        "split": split,
    }


def report(draw: random.Random) -> str:
    return " ".join(draw.choices(SENTENCES, k=draw.randint(4, 11)))


def add_context(study: dict[str, Any], before: dict[int, str]) -> None:
    """All optional keys; the prior is the entry of the same patient in `before`, which gets this one."""
    study |= {
        "views": ["PA"],
        "indication": f"___-year-old with cough and chest pain, case {study['id'][:8]} XXXX.",
        "technique": "PA and lateral views of the chest",
        "comparison": f"Chest radiograph of ___, {study['id'][:2]}.",
        "age": 60,
        "sex": "F",
    }
    if study["subject_id"] in before:
        study["prior"] = {"id": before[study["subject_id"]], "days": 30}
    before[study["subject_id"]] = study["id"]


def read(folder: Path) -> None:
    """What a command does with the annotation before it starts a rank, and its cost."""
    data = Target(
        "r2gen.data.annotation.AnnotatedReports", {"root": str(folder), "cleaner": "mimic_cxr", "check": "none"}
    )
    data_digest(data)
    source = instantiate(data)
    source.check()
    refuse_wrong_priors(source, head="benchmark")
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss / 2**20:.2f} GiB at most", flush=True)


def main(folder: Path, entries: int, *, context: bool) -> None:
    file = folder / "annotation.json"
    if not file.is_file():
        write(file, entries, context=context)
    print(f"{file.stat().st_size / 2**20:,.0f} MiB", flush=True)
    subprocess.run([sys.executable, __file__, str(folder), "--read"], check=True)  # without the memory of `write`


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--entries", type=int, default=sum(ENTRIES.values()))
    parser.add_argument("--context", action="store_true")
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.folder)
    elif options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        main(options.folder, options.entries, context=options.context)
    else:
        with tempfile.TemporaryDirectory() as top:
            main(Path(top), options.entries, context=options.context)
