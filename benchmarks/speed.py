"""Show that what must be quick is quick, as ratios of CPU time to something that everybody knows the cost of.

    PYTHONPATH=. python benchmarks/speed.py [IU_XRAY]

IU_XRAY is a folder with annotation.json and images/, for the time of data.check. Tests count calls and files instead:
a clock is no judge on a busy machine.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from r2gen.compare.report_file import MAX_CHARACTERS
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.data.reports import Study
from r2gen.evaluate.baselines import constant_report
from r2gen.evaluate.nearest import nearest_studies, small_image
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.scoring import score_reports

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config): pass

main()
"""


def cpu_s(work: Callable[[], Any]) -> float:
    """CPU seconds of this process and of the child processes that ended meanwhile."""

    def used_s() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    before_s = used_s()
    work()
    return used_s() - before_s


def show(name: str, seconds: float, other: str, other_s: float) -> None:
    print(f"{name}: {seconds:.3f} s, {seconds / other_s:.2f} times {other} ({other_s:.3f} s)", flush=True)


def cfg_job() -> None:
    """The composed configuration, and an empty Hydra application."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)

        def best(*command: str) -> float:
            run = [sys.executable, *command, "--cfg", "job"]
            return min(cpu_s(lambda: subprocess.run(run, check=True, capture_output=True)) for _ in range(5))

        show("run.py --cfg job", best(str(ROOT / "run.py")), "an empty Hydra application", best(str(empty)))


def constant_baseline() -> None:
    """The constant report of 3,000 training reports, and BLEU and CIDEr of three reports."""
    random = np.random.default_rng(2)
    reports = [
        write_report(frozenset(name for name in FINDINGS if random.random() < 0.15), random) for _ in range(3300)
    ]
    references = {str(index): report for index, report in enumerate(reports[3000:])}

    def score(references: Mapping[str, str], reports: Mapping[str, str]) -> float:
        return Bleu()(references, reports).corpus["bleu_4"] + Cider()(references, reports).corpus["cider"]

    seconds = cpu_s(lambda: constant_report(reports[:3000], references, score))
    three_s = cpu_s(lambda: [score(references, dict.fromkeys(references, report)) for report in reports[:3]])
    show("constant report of 3,000", seconds, "BLEU and CIDEr of three reports", three_s)


class OneImage:
    """Studies whose images are all the same one, in memory, or read and resized each time."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.still = file, Image.effect_noise((32, 32), 50)

    def studies(self, split: str) -> list[Study]:
        return [Study(id=str(number), views=("a", "b"), report="") for number in range(2000)]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        return self.still if self.file is None else Image.open(self.file).convert("L")


def nearest_baseline() -> None:
    """The nearest of 2,000 studies for each of 300, compared and read, and compared alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        Image.effect_noise((256, 256), 50).save(file)

        def find(data: Any) -> None:
            train = data.studies("train")
            nearest_studies(partial(small_image, data), train, train[:300])

        compare_s = cpu_s(lambda: find(OneImage(None)))
        read_s = cpu_s(lambda: find(OneImage(file))) - compare_s
        show("comparing 300 studies with 2,000", compare_s, "reading their images of 256 pixels", read_s)


def longest_report() -> None:
    """The scores of the longest accepted report, and of ten reports of a tenth of its length."""
    sentence = "the lungs are clear . there is no pleural effusion or pneumothorax . "
    longest = (sentence * MAX_CHARACTERS)[:MAX_CHARACTERS]
    metrics = {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider()}

    def score(*reports: str) -> None:
        numbered = {str(number): report for number, report in enumerate(reports)}
        score_reports(metrics, dict.fromkeys(numbered, sentence * 3), numbered)

    tenth = longest[: MAX_CHARACTERS // 10]
    show(
        f"scores of a report of {MAX_CHARACTERS:,} characters",
        cpu_s(lambda: [score(longest, sentence) for _ in range(10)]) / 10,
        "ten reports of a tenth",
        cpu_s(lambda: [score(*[tenth] * 10, sentence) for _ in range(10)]) / 10,
    )


def data_check(root: Path) -> None:
    """The check of all images by their headers, and by decoding."""
    names = json.loads((root / "annotation.json").read_text(encoding="utf-8"))
    count = sum(len(study["image_path"]) for split in names.values() for study in split)
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # no image has been decoded before

    def check(mode: Literal["fast", "full"]) -> float:
        data = AnnotatedReports(root=str(root), cleaner="iu_xray", check=mode)
        return cpu_s(data.check)

    show(f"data.check=fast of {count:,} images", check("fast"), "data.check=full", check("full"))


if __name__ == "__main__":
    cfg_job()
    constant_baseline()
    nearest_baseline()
    longest_report()
    if sys.argv[1:]:
        data_check(Path(sys.argv[1]))
