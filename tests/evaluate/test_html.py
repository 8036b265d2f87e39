"""report.html is one inert, self-contained file at every stage of a run.

`python tests/evaluate/test_html.py DIR` makes a fake finished run in DIR to look at.
"""

import base64
import hashlib
import io
import itertools
import json
import math
import random
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageDraw

from r2gen.errors import UserError
from r2gen.evaluate.html import chosen_studies, shown_studies, write_page
from r2gen.pages.document import FOLDER

HOSTILE = (
    "</script><script>alert(1)</script> \"quoted\" 'it' & <img src=x onerror=alert(2)> \u2028\u2029 @@TITLE@@ <!--"
)
SENTENCES = (
    "the heart is normal in size .", "the lungs are clear .", "no pneumothorax or pleural effusion .",
    "there is a small left pleural effusion with adjacent atelectasis .", "the mediastinum is unremarkable .",
    "mild degenerative changes of the thoracic spine .", "right basilar opacity may represent pneumonia .",
    "a 2.5 cm calcified granuloma is seen in the right upper lobe .",
)  # fmt: skip
SCORES = {"bleu_1": 0.412, "bleu_4": 0.171, "rouge_l": 0.371, "meteor": 0.188, "cider": 0.402, "findings_f1": 0.431}


def film(seed: int, *, size_px: int = 480) -> Image.Image:
    """Something like a chest: two dark lungs, a heart, ribs and noise."""
    noise = Image.effect_noise((size_px, size_px), 18)
    drawn = Image.new("L", (size_px, size_px), 150)
    pen, unit = ImageDraw.Draw(drawn), size_px / 100
    for left in (14, 54):
        pen.ellipse([left * unit, (14 + seed % 5) * unit, (left + 32) * unit, 84 * unit], fill=45)
    for rib in range(20, 84, 9):
        pen.arc([8 * unit, (rib - 12) * unit, 92 * unit, (rib + 12) * unit], 190, 350, fill=95, width=int(2 * unit))
    pen.ellipse([40 * unit, 44 * unit, (64 + seed % 7) * unit, 80 * unit], fill=175)
    return Image.blend(drawn, noise, 0.18)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def started_run(folder: Path, *, status: str = "running", reason: str | None = None) -> Path:
    """A run folder with run.json and config.yaml only."""
    folder.mkdir(exist_ok=True)
    choices = {"lm": "llama2", "vision": "swin_base", "data": "iu_xray", "tune": "shallow", "tune/lm": "frozen"}
    choices |= {"quant": "none", "projector": "linear", "generation": "greedy"}
    config = {"lm": {"path": "/models/llama2-7b"}, "data": {"root": "/data/iu_xray"}, "seed": 1, "choices": choices}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    parts = (("vision", 87_768_224, 0), ("projector", 4_198_400, 4_198_400), ("lm", 6_738_415_616, 0))
    versions = {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0", "deepspeed": "0.19.2"}
    write_json(folder / "run.json", {
        "status": status, "reason": reason, "name": "train-llama2-iu_xray-3fa91c02", "task": "train",
        "overrides": ["lm=llama2", "data=iu_xray", "tune=shallow", "seed=1"],
        "command": "python run.py lm=llama2 data=iu_xray tune=shallow seed=1",
        "git": {"revision": "5ecba70d1f", "dirty": True}, "versions": versions,
        "hardware": {"cpu": "AMD EPYC 9454", "gpus": ["NVIDIA H100 80GB HBM3"] * 2, "memory_gib": 251.6},
        "data_hash": "9c1e77a0", "identity": "3fa91c02", "format": 1, "started": "2026-03-02T09:14:05+00:00",
        "finished": "2026-03-02T11:02:41+00:00" if status == "finished" else None,
        "seconds": {"train": 6123.4, "evaluate": 392.2} if status == "finished" else {},
        "parameters": [{"part": part, "total": total, "trainable": trainable} for part, total, trainable in parts],
    })  # fmt: skip
    return folder


def with_training(folder: Path, *, steps: int = 400, every: int = 2) -> Path:
    luck = random.Random(1)
    rows: list[dict[str, Any]] = []
    for step in range(every, steps + 1, every):
        loss = 0.9 + 2.6 * math.exp(-step / 70) + luck.gauss(0, 0.09)
        rate = 1e-4 * min(1, step / 40) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        rows.append({"event": "step", "step": step, "epoch": step / 100, "loss": loss, "lr": rate, "seconds": step / 8,
                     "grad_norm": 1.5 * math.exp(-step / 90) + luck.random() / 3, "samples_per_s": 85.0})  # fmt: skip
        if step % 50 == 0:
            share = 1 - math.exp(-step / 120)
            scores = {name: value * share * (1 if step < 350 else 0.97) for name, value in SCORES.items()}
            rows.append({"event": "validation", "step": step, "epoch": step / 100, "split": "val", "scores": scores,
                         "best": step <= 300, "selection": scores["cider"]})  # fmt: skip
    write_lines(folder / "train.jsonl", rows)
    return folder


def with_predictions(folder: Path, *, split: str = "test", count: int = 60, text: str | None = None) -> Path:
    luck = random.Random(2)
    rows: list[dict[str, Any]] = [
        {"header": {"checkpoint": "step-00000300", "generation": "greedy", "code": "5ecba70d1f"}}
    ]
    for number in range(count):
        reference = luck.sample(SENTENCES, luck.randint(3, 6))
        report = [sentence for sentence in reference if luck.random() < 0.7] + luck.sample(
            SENTENCES, luck.randint(0, 2)
        )
        if number % 15 == 0:
            report = list(reference)
        finish = "length" if number % 7 == 3 else "stop"
        generated = " ".join(report)[: 90 if finish == "length" else None]
        rows.append({"id": f"CXR{number}_IM-{1000 + 37 * number % 900:04d}", "report": text or generated,
                     "reference": text or " ".join(reference), "tokens": 60 if finish == "length" else 20 + number,
                     "finish": finish, "seconds": 0.31})  # fmt: skip
    write_lines(folder / "predictions" / f"{split}.greedy.jsonl", rows)
    return folder


def with_metrics(folder: Path) -> Path:
    lower = {
        name: value * factor
        for (name, value), factor in zip(SCORES.items(), (0.99, 0.94, 1.02, 0.97, 0.8, 0.4), strict=True)
    }
    shuffled = {name: value * 0.9 for name, value in SCORES.items()}
    systems = {"model": SCORES, "constant": lower, "shuffled": shuffled}
    spread = {
        "intervals": {system: {name: {"value": value, "low": value * 0.95, "high": value * 1.04, "draws": 10_000}
                               for name, value in scores.items()} for system, scores in systems.items()},
        "margins": {name: {"value": value, "low": value - 0.01, "high": value + 0.012, "draws": 10_000,
                           "p": 0.2 if abs(value) < 0.01 else 0.0004, "within_noise": abs(value) < 0.01}
                    for name, value in ((name, SCORES[name] - lower[name]) for name in SCORES)},
    }  # fmt: skip
    cut = {"truncated": {"tokens": 60, "systems": systems} | spread}
    ids = study_ids(folder)
    write_json(folder / "metrics.json", {
        "format": 1, "generation": "greedy", "checkpoint": "step-00000300",
        "splits": {"val": {"studies": 295, "systems": systems} | spread,
                   "test": {"studies": 590, "systems": systems} | spread | cut},
        "recipe": {"section": "findings", "cleaner": "iu_xray", "data": "0123456789abcdef"},
        "signatures": {"bleu": {"implementation": "pycocoevalcap", "version": "1.2", "tokenizer": "space"}},
        "unavailable": {"chexbert": "there are no weights"},
        "constant_report": "the heart is normal in size . the lungs are clear . no pneumothorax or pleural effusion .",
        "skipped": {"train": "it is not asked for"},
        "per_report": {"test": {"bleu_4": {study: index / len(ids) for index, study in enumerate(ids)}}},
    })  # fmt: skip
    return folder


def study_ids(folder: Path, *, split: str = "test") -> list[str]:
    lines = (folder / "predictions" / f"{split}.greedy.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["id"] for line in lines[1:]]


def finished_run(folder: Path) -> Path:
    return with_metrics(with_predictions(with_training(started_run(folder, status="finished"))))


def shown(page: Path) -> dict[str, Any]:
    """The data as the browser's JSON.parse sees it."""
    block = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    content: dict[str, Any] = json.loads(block, parse_constant=refuse)
    return content


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    text = write_page(run, films={study: [film(0)] for study in study_ids(run)}).read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttp|WebSocket|<link|<iframe|import\(",
        text.partition('id="data">')[0],
    )
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", text)
    assert "default-src 'none'" in text


def test_the_policy_names_the_script_that_is_there(tmp_path: Path) -> None:
    text = write_page(started_run(tmp_path / "run"), films={}).read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"script-src 'sha256-{digest}'" in text
    assert "innerHTML" not in text
    assert "@@" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=3, text=HOSTILE)
    description = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**description, "name": HOSTILE, "reason": HOSTILE})
    page = write_page(run)
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == (FOLDER / "document.html").read_text().count("<script")
    assert text.count("</script") == (FOLDER / "document.html").read_text().count("</script")
    assert "<img src=x" not in text
    assert "\u2028" not in text
    assert "\u2029" not in text
    content = shown(page)
    assert content["studies"]["rows"][0]["report"] == HOSTILE
    assert content["run"]["reason"] == HOSTILE


def test_the_page_says_that_it_holds_patient_text_and_is_closed_to_others(tmp_path: Path) -> None:
    page = write_page(started_run(tmp_path / "run"), films={})
    assert "Holds patient text" in page.read_text(encoding="utf-8")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
def test_every_stage_has_a_page(tmp_path: Path, status: str) -> None:
    run = started_run(tmp_path / "run", status=status, reason="out of memory" if status == "failed" else None)
    content = shown(write_page(run, films={}))
    assert (content["studies"], content["metrics"], content["curves"]["steps"]) == (None, None, [])
    content = shown(write_page(with_training(run), films={}))
    assert len(content["curves"]["steps"]) == 200
    content = shown(write_page(with_predictions(run, split="val")))
    assert content["studies"]["split"] == "val"
    content = shown(write_page(with_metrics(with_predictions(run))))
    assert content["studies"]["split"] == "test"
    assert "per_report" not in content["metrics"]
    of_test = content["metrics"]["splits"]["test"]
    assert of_test["intervals"].keys() == of_test["truncated"]["intervals"].keys() == of_test["systems"].keys()
    assert len(content["studies"]["rows"]) == 24
    assert all("bleu_4" in row["scores"] for row in content["studies"]["rows"])


def test_a_page_of_no_studies_stays_without_them(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    assert shown_studies(run, count=0) == ("test", [])
    assert shown(write_page(run, films={}))["studies"]["rows"] == []
    assert shown(write_page(run))["studies"]["rows"] == []


def test_test_reports_of_an_older_checkpoint_stay_out_while_training_goes_on(tmp_path: Path) -> None:
    run = with_predictions(finished_run(tmp_path / "run"), split="val", count=9)
    write_json(run / "metrics.json", {"generation": "greedy", "splits": {"val": {"studies": 9, "systems": {}}}})
    assert shown(write_page(run, films={}))["studies"]["split"] == "val"
    assert shown_studies(run) == ("val", chosen_studies(study_ids(run, split="val")))


def test_a_launcher_can_say_how_a_run_ended_and_keep_the_films(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    split_and_ids = shown_studies(run, count=5)
    assert split_and_ids is not None
    before = shown(write_page(run, films={study: [film(1)] for study in split_and_ids[1]}))["studies"]["rows"]
    description = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**description, "status": "stopped", "reason": "stopped by a signal"})
    after = shown(write_page(run))
    assert after["run"]["status"] == "stopped"
    assert after["studies"]["rows"] == before
    assert [len(row["films"]) for row in before] == [1] * 5
    assert shown(write_page(started_run(tmp_path / "new")))["studies"] is None


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    run = started_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(UserError, match=name):
        write_page(run, films={})


def test_a_torn_last_line_is_left_out_and_any_other_is_named(tmp_path: Path) -> None:
    run = with_training(started_run(tmp_path / "run"), steps=20, every=10)
    path = run / "train.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "step", "step": 30, "lo')
    assert [row["step"] for row in shown(write_page(run, films={}))["curves"]["steps"]] == [10, 20]
    path.write_bytes(whole + b'{"event": "st\n' + whole)
    with pytest.raises(UserError, match=r"train\.jsonl, line 3"):
        write_page(run, films={})


def test_of_a_stretch_trained_twice_the_later_counts(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    steps = [
        {"event": "step", "step": step, "loss": loss} for step, loss in ((10, 3.0), (20, 2.0), (30, 1.9), (20, 2.5))
    ]
    write_lines(run / "train.jsonl", steps)
    rows = shown(write_page(run, films={}))["curves"]["steps"]
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 3.0), (20, 2.5)]


def test_a_long_run_keeps_its_spikes_and_a_loss_that_is_no_number(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    rows = [{"event": "step", "step": step, "loss": 1 + 1 / step} for step in range(1, 50_001)]
    rows[31_234]["loss"], rows[44_444]["loss"] = 99.0, math.nan
    write_lines(run / "train.jsonl", rows)
    curves = shown(write_page(run, films={}))["curves"]
    losses = [row["loss"] for row in curves["steps"]]
    assert len(losses) < 2000
    assert curves["logged"] == 50_000
    assert 99.0 in losses
    assert None in losses
    assert (curves["steps"][0]["step"], curves["steps"][-1]["step"]) == (1, 50_000)


def test_predictions_without_a_header_are_refused(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    write_lines(run / "predictions" / "val.greedy.jsonl", [{"id": "a", "report": "x", "reference": "y"}])
    with pytest.raises(UserError, match="line 1 is no header"):
        write_page(run, films={})


def test_a_reader_never_meets_half_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started_run(tmp_path / "run")
    old = write_page(run, films={}).read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        assert (run / "report.html").read_bytes() == old
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_page(run, films={})
    assert (run / "report.html").read_bytes() == old
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "report.html", "run.json"]


def test_films_are_small_gray_jpegs_of_the_studies_shown(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=30)
    films = {study: [film(1), film(2, size_px=200)] for study in chosen_studies(study_ids(run))}
    rows = shown(write_page(run, films=films))["studies"]["rows"]
    assert [row["id"] for row in rows] == chosen_studies(study_ids(run))
    for row in rows:
        views = [
            Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
            for uri in row["films"]
        ]
        assert [(view.mode, view.size) for view in views] == [("L", (320, 320)), ("L", (200, 200))]


def test_the_page_stays_under_three_megabytes(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=24)
    grain = Image.effect_noise((400, 400), 120)  # the worst a JPEG can meet
    page = write_page(run, films={study: [grain] * 4 for study in study_ids(run)})
    assert page.stat().st_size < 3_000_000


def test_studies_are_chosen_evenly_and_always_the_same() -> None:
    ids = [f"s{number:03d}" for number in range(100)]
    chosen = chosen_studies(ids)
    assert len(chosen) == len(set(chosen)) == 24
    assert chosen == chosen_studies(ids[::-1])
    gaps = {int(after[1:]) - int(before[1:]) for before, after in itertools.pairwise(chosen)}
    assert gaps == {4, 5}
    assert chosen_studies(["b", "a"]) == ["a", "b"]
    assert chosen_studies([]) == []


if __name__ == "__main__":
    made = finished_run(Path(sys.argv[1]))
    print(
        write_page(
            made, films={study: [film(n), film(n + 3)] for n, study in enumerate(chosen_studies(study_ids(made)))}
        )
    )
