"""CPU seconds of an evaluation without its decoding, by part: scores, baselines, statistics and files.

    PYTHONPATH=. python benchmarks/scoring.py [--studies 3858] [--train 150000] [--annotation FILE] [--findings]

Reports have about 60 words, as MIMIC-CXR's findings have, and consist of sentences of an annotation.json, or of the
phantom. Seconds include those of Java.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from r2gen.data.cleaning import clean_report
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.evaluate.baselines import BASELINE_SEED, constant_report, random_reports, shuffled_reports
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.meteor import Meteor
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.predictions import Prediction, write_predictions
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.scoring import score_reports
from r2gen.evaluate.split_scores import Scorer
from r2gen.evaluate.wording import wording_entry

WORDS = 60
HERTZ = os.sysconf("SC_CLK_TCK")
Result = TypeVar("Result")


def cpu_s() -> float:
    """CPU seconds of this process and all its descendants."""
    children = defaultdict(list)
    ticks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        children[int(fields[1])].append(int(folder.name))
        ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    own, total = [os.getpid()], 0
    while own:
        pid = own.pop()
        total += ticks.get(pid, 0)
        own += children[pid]
    return total / HERTZ


class Parts:
    """CPU and wall seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    def timed(self, part: str, work: Callable[[], Result]) -> Result:
        cpu, wall = cpu_s(), time.monotonic()
        result = work()
        before = self.seconds.get(part, (0.0, 0.0))
        self.seconds[part] = (before[0] + cpu_s() - cpu, before[1] + time.monotonic() - wall)
        print(f"{part:40} {cpu_s() - cpu:7.2f} s CPU {time.monotonic() - wall:7.2f} s", flush=True)
        return result


def sentences_of(annotation: Path | None) -> list[str]:
    if annotation is not None:
        content = json.loads(annotation.read_text(encoding="utf-8"))
        reports = [clean_report(study["report"], "mimic_cxr") for split in content.values() for study in split]
    else:
        draw = np.random.default_rng(0)
        reports = [write_report(frozenset(name for name in FINDINGS if draw.random() < 0.15), draw) for _ in range(500)]
    return [sentence.strip() for report in reports for sentence in report.split(" . ") if sentence.strip(" .")]


def drawn_reports(sentences: list[str], count: int, *, name: str) -> dict[str, str]:
    draw, reports = random.Random(name), {}
    for number in range(count):
        length, parts, words = draw.gauss(WORDS, WORDS / 3), [], 0
        while words < length or not parts:
            parts.append(draw.choice(sentences).rstrip(" ."))
            words += len(parts[-1].split()) + 1
        reports[f"{name}-{number:06}"] = " . ".join(parts) + " ."
    return reports


class TimedMetric:
    """A metric whose calls are timed."""

    def __init__(self, metric: Metric, parts: Parts) -> None:
        self.metric, self.parts = metric, parts
        self.name, self.scores, self.weights = metric.name, metric.scores, metric.weights

    def __call__(self, references, reports):  # type: ignore[no-untyped-def]
        return self.parts.timed(f"score {self.name}", lambda: self.metric(references, reports))

    def sums(self, references, reports, scores):  # type: ignore[no-untyped-def]
        return self.parts.timed(f"sums {self.name}", lambda: self.metric.sums(references, reports, scores))


def main(studies: int, train_studies: int, annotation: Path | None, findings: bool) -> None:
    sentences = sentences_of(annotation)
    train = list(drawn_reports(sentences, train_studies, name="train").values())
    val = drawn_reports(sentences, max(2, studies * 55 // 100), name="val")
    references = drawn_reports(sentences, studies, name="test")
    model = dict(zip(references, drawn_reports(sentences, studies, name="model").values(), strict=True))
    print(f"{np.mean([len(report.split()) for report in references.values()]):.1f} words per reference")
    parts = Parts()
    metrics: dict[str, Metric] = {"bleu": Bleu(), "rouge_l": RougeL(), "meteor": Meteor(), "cider": Cider()}
    metrics |= {"findings": Findings()} if findings else {}
    plain = Scorer(metrics=metrics, best={"bleu_4": 0.5, "cider": 0.5})
    timed = Scorer(metrics={name: TimedMetric(metric, parts) for name, metric in metrics.items()}, best=plain.best)

    constant = parts.timed("constant report", lambda: constant_report(train, val, plain.selection_of))

    def reports() -> Mapping[str, Mapping[str, str]]:
        return {
            "constant": dict.fromkeys(model, constant),
            "random": random_reports(model, train, seed=BASELINE_SEED),
            "nearest": random_reports(model, train, seed=1),
            "shuffled": shuffled_reports(model, seed=BASELINE_SEED),
        }

    baselines = parts.timed("reports of baselines", reports)
    parts.timed("start of Java", lambda: score_reports({"meteor": metrics["meteor"]}, {"a": "a"}, {"a": "a"}))
    predictions = [Prediction(id, model[id], references[id], 60, "stop", 0.1) for id in references]
    scored = timed.score(predictions, baselines)
    entry = parts.timed("entry, statistics and sums", lambda: timed.entry(scored, statistics=True))
    entry["wording"] = parts.timed("wording", lambda: wording_entry(model, references, train))
    with tempfile.TemporaryDirectory() as folder:
        writer = MetricsWriter(Path(folder) / "metrics.json", "greedy", {}, timed.specs(), [])
        made_by = {"checkpoint": "0"}
        header = {"header": made_by}
        parts.timed("predictions", lambda: write_predictions(Path(folder) / "p" / "x.jsonl", header, predictions))
        scores = scored.full.scores["model"]
        for _ in range(2):
            parts.timed("metrics.json", lambda: writer.write({"test": entry}, made_by=made_by, scores=scores))
        if DUMP := os.environ.get("DUMP"):
            Path(DUMP).write_bytes((Path(folder) / "metrics.json").read_bytes())
    print()
    for part, (cpu, wall) in parts.seconds.items():
        print(f"{part:40} {cpu:7.2f} s CPU {wall:7.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=3858)
    parser.add_argument("--train", type=int, default=150_000)
    parser.add_argument("--annotation", type=Path)
    parser.add_argument("--findings", action="store_true")
    given = parser.parse_args()
    main(given.studies, given.train, given.annotation, given.findings)
