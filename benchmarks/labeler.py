"""Measure how well the findings labeler agrees with Open-i's gold labels, and its speed.

`python benchmarks/labeler.py DIR [positive|negative]`. DIR contains annotation.json, meta.csv (impressions) and
labels_openi14.csv (gold). The second argument is what an uncertain mention counts as.
"""

import csv
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from r2gen.evaluate.labeler import ReportLabels, Status, label_report

# Gold name to CheXpert's name; the other seven gold labels have no counterpart.
COUNTERPARTS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Effusion": "Pleural Effusion",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
}
COUNTED = {"positive": {Status.POSITIVE, Status.UNCERTAIN}, "negative": {Status.POSITIVE}}


def rows_by_id(file: Path) -> dict[str, dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def print_agreement(gold: Mapping[str, Mapping[str, str]], labels: Mapping[str, ReportLabels], uncertain: str) -> None:
    for name in (*COUNTERPARTS, "normal"):
        true = {id for id in labels if gold[id][name] == "1"}
        if name == "normal":
            stated = {id for id, label in labels.items() if label.normal}
        else:
            stated = {id for id, label in labels.items() if label.status.get(COUNTERPARTS[name]) in COUNTED[uncertain]}
        right = len(true & stated)
        precision, recall = (right / len(part) if part else float("nan") for part in (stated, true))
        f1 = 2 * right / (len(true) + len(stated)) if true or stated else float("nan")
        print(f"  {name:13} n {len(true):4}  precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}")


def main(root: Path, uncertain: str) -> None:
    annotation = json.loads((root / "annotation.json").read_text(encoding="utf-8"))
    gold, meta = rows_by_id(root / "labels_openi14.csv"), rows_by_id(root / "meta.csv")
    for split, studies in annotation.items():
        findings = {study["id"]: study["report"] for study in studies}
        whole = {id: f"{text}\n\n{meta[id]['impression']}" for id, text in findings.items()}
        for what, texts in (("findings", findings), ("findings + impression", whole)):
            if texts:
                began = time.process_time()
                labels = {id: label_report(text) for id, text in texts.items()}
                per_1000 = (time.process_time() - began) / len(texts) * 1000
                print(f"{split}, {what}: {len(texts)} reports, {per_1000:.2f} s of processor time per 1,000")
                print_agreement(gold, labels, uncertain)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["positive"], ["negative"]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else "positive")
