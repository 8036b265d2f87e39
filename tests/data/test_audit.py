"""task=audit: counts of val and test reports and images that are also in training, and what could not be compared."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from smallest_run import run

from r2gen.data.annotation import AnnotatedReports
from r2gen.data.audit import statistics_of
from r2gen.data.phantom import VERSION, Phantom

TRAIN = ["No effusion.", "no  effusion .", "The heart is large. The lungs are clear."]
VAL = ["No effusion.", "No pneumothorax, no effusion."]


def write(root: Path, **more: Any) -> Path:
    """Five studies of one image each; val's first image has the pixels of training's first, under another name."""
    annotation: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    for split, reports in (("train", TRAIN), ("val", VAL)):
        for number, report in enumerate(reports):
            image = f"{split}{number}.png"
            gray = np.random.default_rng(number).integers(0, 256, (8, 6 + number), dtype=np.uint8)
            (root / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(gray if image != "val1.png" else gray // 64).save(root / "images" / image)
            annotation[split].append({"id": image[:-4], "report": report, "image_path": [image], **more})
    (root / "annotation.json").write_text(json.dumps(annotation))
    return root


def test_reports_words_and_images_that_are_in_training_are_counted(tmp_path: Path) -> None:
    data = AnnotatedReports(root=str(write(tmp_path)), cleaner="iu_xray")
    splits = statistics_of(data, images=None)["splits"]
    train, val = splits["train"]["reports"], splits["val"]["reports"]
    assert (train["studies"], train["distinct"], train["most_common"], train["in_training"]) == (3, 2, 2, 2)
    assert (val["distinct"], val["in_training"], splits["val"]["ids_in_training"]) == (2, 1, ["val0"])
    assert val["unknown_words"] == pytest.approx(1 / 8)  # pneumothorax, of eight
    assert val["unknown_different"] == pytest.approx(1 / 4)
    images = splits["val"]["images"]
    assert (images["looked_at"], images["in_training"], images["blank"]) == (2, 1, 1)
    assert (images["shortest_px"], images["longest_px"], images["views"]) == (6, 8, {"1": 2})


def test_images_are_sampled_by_whole_studies_evenly_spread() -> None:
    data = Phantom(seed=0, train_studies=100, val_studies=10, test_studies=0, size_px=32, version=VERSION)
    splits = statistics_of(data, images=50)["splits"]
    assert (splits["train"]["images"]["looked_at"], splits["train"]["images"]["images"]) == (50, 200)
    assert splits["val"]["images"]["looked_at"] == 20
    assert "test" not in splits


def test_the_command_prints_a_table_and_writes_a_file_without_a_run(tmp_path: Path) -> None:
    root = write(tmp_path / "data", study_id=None)
    done = run("task=audit", "data=iu_xray", f"data.root={root}", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"reports that are \(also\) in training +2 \(66\.7%\) +1 \(50\.0%\)", done.stdout), done.stdout
    words = " ".join(done.stdout.split())
    assert "splits: unknown whether a patient is in two splits (subject_id in 0 of 5 entries)" in words
    (written,) = tmp_path.glob("outputs/audit-iu_xray-*/audit.json")
    assert written.parent.stat().st_mode & 0o077 == 0
    assert written.stat().st_mode & 0o777 == 0o600
    assert json.loads(written.read_text())["splits"]["val"]["ids_in_training"] == ["val0"]
    done = run("task=audit", "data=iu_xray", f"data.root={root}", "out=there", cwd=tmp_path, smallest=False)
    assert (tmp_path / "there" / "audit.json").read_text() == written.read_text(), done.stderr
    refused = run("task=audit", "audit.films=-1", cwd=tmp_path, smallest=False)
    assert (refused.returncode, "audit.films=-1" in refused.stderr) == (2, True)
    refused = run("task=audit", "lm=llama2", cwd=tmp_path, smallest=False)
    assert (refused.returncode, "it reads data, audit, out only" in refused.stderr) == (2, True)
