"""What an evaluation costs besides decoding: a whole one, of a model that writes known reports at a steady rate.

    PYTHONPATH=. python benchmarks/scoring.py [--studies 3858] [--rate 65] [--annotation FILE] [--findings]

Prints wall seconds, and CPU seconds of this process and of all others (Java, baselines), before the first report, while
the model writes, and after the last report; then the CPU seconds of each metric alone. Reports have about 60 words, as
the findings of MIMIC-CXR, in sentences of an annotation.json or of the phantom. Each study has one image of noise.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from r2gen.config.decoding import Decoding
from r2gen.data.cleaning import clean_report
from r2gen.data.collate import Batch
from r2gen.data.dataset import StudyDataset
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.data.reports import SPLITS, Study
from r2gen.evaluate.baseline_reports import BaselineReports
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.evaluation import Evaluation
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.predicting import Inference, Origin, Predictor
from r2gen.evaluate.run_page import RunPage
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.split_scores import Scorer
from r2gen.lm.protocol import DecodingPlan, Generated, Reports
from r2gen.ranks.stop import StopRequest

WORDS = 60
SIZE_PX = 32
HERTZ = os.sysconf("SC_CLK_TCK")


def sentences_of(annotation: Path | None) -> list[str]:
    if annotation is not None:
        content = json.loads(annotation.read_text(encoding="utf-8"))
        reports = [clean_report(study["report"], "mimic_cxr") for split in content.values() for study in split]
    else:
        draw = np.random.default_rng(0)
        reports = [write_report(frozenset(name for name in FINDINGS if draw.random() < 0.15), draw) for _ in range(500)]
    return [sentence.strip() for report in reports for sentence in report.split(" . ") if sentence.strip(" .")]


def drawn_reports(sentences: Sequence[str], count: int, *, name: str) -> dict[str, str]:
    draw, reports = random.Random(name), {}
    for number in range(count):
        length, parts, words = draw.gauss(WORDS, WORDS / 3), [], 0
        while words < length or not parts:
            parts.append(draw.choice(sentences).rstrip(" ."))
            words += len(parts[-1].split()) + 1
        reports[f"{name}-{number:06}"] = " . ".join(parts) + " ."
    return reports


class Texts:
    """A data set of these reports; each study has an image of its own."""

    section, cleaner = "findings", "mimic_cxr"

    def __init__(self, reports: Mapping[str, Mapping[str, str]]) -> None:
        self.reports = reports

    def studies(self, split: str) -> list[Study]:
        return [Study(id=id, views=(id,), report=report) for id, report in self.reports[split].items()]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        return Image.frombytes("L", (SIZE_PX, SIZE_PX), random.Random(view).randbytes(SIZE_PX**2))


class SteadyModel:
    """A model that writes these reports, so many per second, and does nothing else. It notes when."""

    decoded = None

    def __init__(self, reports: Mapping[str, str], *, rate: float, note: Callable[[str], None]) -> None:
        self.reports, self.rate, self.note = reports, rate, note

    def eval(self) -> None:
        pass

    def stream(self, batches: Iterable[Batch], decoding: Decoding, plan: DecodingPlan) -> Reports:
        began, count = time.monotonic(), 0
        self.note("before the first report")
        for batch in batches:
            for id in batch.ids:
                count += 1
                time.sleep(max(0.0, began + count / self.rate - time.monotonic()))
                yield id, Generated((0,), self.reports[id], "stop")
        self.note("while the model writes")

    def nats(self, batch: Batch) -> torch.Tensor:
        return torch.ones(len(batch.ids))

    def keeps(self, text: str) -> bool:
        return True


class Clock:
    """Wall and CPU seconds since the part before; CPU seconds of this process, and of all that descend from it."""

    def __init__(self) -> None:
        self.before = self.now()

    def now(self) -> tuple[float, float, float]:
        used = os.times()
        return (
            time.monotonic(),
            used.user + used.system,
            cpu_of_descendants_s() + used.children_user + used.children_system,
        )

    def note(self, part: str) -> None:
        now = self.now()
        wall, own, others = (new - old for new, old in zip(now, self.before, strict=True))
        print(f"{part:26} wall {wall:7.2f} s, CPU of this process {own:6.2f} s, of others {others:6.2f} s", flush=True)
        self.before = self.now()


def cpu_of_descendants_s() -> float:
    """CPU seconds of the processes below this one that still run, and of those that they waited for."""
    children, ticks = defaultdict(list), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        children[int(fields[1])].append(int(folder.name))
        ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    descendants, total = list(children[os.getpid()]), 0
    while descendants:
        process = descendants.pop()
        total += ticks[process]
        descendants += children[process]
    return total / HERTZ


def evaluation_of(folder: Path, texts: Texts, metrics: Mapping[str, Metric]) -> Evaluation:
    datasets = {
        split: StudyDataset(
            texts.studies(split),
            image=lambda view: torch.zeros(SIZE_PX, SIZE_PX, dtype=torch.uint8),
            encode=lambda report: [0],
        )
        for split in SPLITS
    }
    inference = Inference(
        batch_size=32, slots=None, decoder="tree", workers=0, device=torch.device("cpu"), stop=StopRequest()
    )
    scorer = Scorer(metrics=metrics, best={"bleu_4": 0.5, "cider": 0.5})
    return Evaluation(
        predictor=Predictor(
            run_dir=folder,
            datasets=datasets,
            origin=Origin("greedy", Decoding(max_new_tokens=1), "none", "0", None),
            inference=inference,
        ),
        baselines=BaselineReports(
            data=texts, datasets=datasets, data_hash="0", nearest_file=folder / "nearest.json", nearest_most=20_000
        ),
        scorer=scorer,
        metrics=MetricsWriter(folder / "metrics.json", "greedy", {}, scorer.specs(), []),
        page=RunPage(run_dir=folder, data=texts, datasets=datasets, studies=0),
    )


def score_alone(metrics: Mapping[str, Metric], references: Mapping[str, str], reports: Mapping[str, str]) -> None:
    print(f"one system of {len(reports):,} reports, alone:")
    for name, metric in metrics.items():
        clock = Clock()
        metric(references, reports)
        clock.note(f"  {name}")


def main(studies: int, train_studies: int, rate: float, annotation: Path | None, metrics: Mapping[str, Metric]) -> None:
    sentences = sentences_of(annotation)
    counts = {"train": train_studies, "val": max(2, studies * 55 // 100), "test": studies}
    texts = Texts({split: drawn_reports(sentences, count, name=split) for split, count in counts.items()})
    references = texts.reports["test"]
    model = dict(zip(references, drawn_reports(sentences, studies, name="model").values(), strict=True))
    words = np.mean([len(report.split()) for report in references.values()])
    print(f"{studies:,} studies, {words:.1f} words per reference, {rate:g} reports/s")
    with tempfile.TemporaryDirectory() as folder:
        evaluation = evaluation_of(Path(folder), texts, metrics)
        clock = Clock()
        evaluation.evaluate(SteadyModel(model, rate=rate, note=clock.note), ["test"], checkpoint="0")
        clock.note("after the last report")
    score_alone(metrics, references, drawn_again(references, sentences))


def drawn_again(references: Mapping[str, str], sentences: Sequence[str]) -> dict[str, str]:
    """Other reports, of which no metric has stored anything."""
    return dict(zip(references, drawn_reports(sentences, len(references), name="again").values(), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=3858)
    parser.add_argument("--train", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=65.0, help="reports per second of the model")
    parser.add_argument("--annotation", type=Path)
    parser.add_argument("--findings", action="store_true")
    given = parser.parse_args()
    from r2gen.evaluate.meteor import Meteor  # needs Java, which those that import this module may lack

    metrics: dict[str, Metric] = {"bleu": Bleu(), "rouge_l": RougeL(), "meteor": Meteor(), "cider": Cider()}
    metrics |= {"findings": Findings()} if given.findings else {}
    main(given.studies, given.train, given.rate, given.annotation, metrics)
