"""report.html is one self-contained file that executes no text of a run, at every stage of the run.

`python tests/pages/test_run_page.py DIR` writes the page of a fake finished run to DIR.
"""

import base64
import hashlib
import io
import itertools
import json
import math
import re
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composed import composed
from fake_run import (
    HOSTILE,
    finished_run,
    image,
    started_run,
    study_ids,
    with_metrics,
    with_predictions,
    with_training,
    write_json,
    write_lines,
)
from PIL import Image
from shown_page import shown_text

from r2gen.data.context import StudyContext
from r2gen.data.reports import Prior, Study
from r2gen.errors import UserError
from r2gen.evaluate.labeler import stated_findings
from r2gen.evaluate.run_page import CUT_FIRST, RunPage
from r2gen.pages.document import FOLDER
from r2gen.pages.run import chosen_studies, shown_studies, write_page


def shown(page: Path) -> dict[str, Any]:
    """The content as the browser's JSON.parse reads it."""
    block = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is not JSON")

    content: dict[str, Any] = json.loads(block, parse_constant=refuse)
    return content


def test_the_page_requests_nothing_from_the_network(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    text = write_page(run, images={study: [image(0)] for study in study_ids(run)}).read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|//[a-z]+\.|@import|url\(|fetch\(|XMLHttp|WebSocket|<link|<iframe|import\(",
        text.partition('id="data">')[0],
    )
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", text)
    assert "default-src 'none'" in text


def test_the_security_policy_has_the_hash_of_the_script(tmp_path: Path) -> None:
    text = write_page(started_run(tmp_path / "run"), images={}).read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"script-src 'sha256-{digest}'" in text
    assert "innerHTML" not in text
    assert "@@" not in text


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
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


def test_the_page_warns_of_patient_text_and_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    page = write_page(started_run(tmp_path / "run"), images={})
    assert "Contains patient text" in page.read_text(encoding="utf-8")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "failed"])
def test_a_run_has_a_page_at_every_stage(tmp_path: Path, status: str) -> None:
    run = started_run(tmp_path / "run", status=status, reason="out of memory" if status == "failed" else None)
    content = shown(write_page(run, images={}))
    assert (content["studies"], content["metrics"], content["curves"]["steps"]) == (None, None, [])
    content = shown(write_page(with_training(run), images={}))
    assert len(content["curves"]["steps"]) == 200
    content = shown(write_page(with_predictions(run, split="val")))
    assert content["studies"]["split"] == "val"
    content = shown(write_page(with_metrics(with_predictions(run))))
    assert content["studies"]["split"] == "test"
    assert "per_report" not in content["metrics"]
    of_test = content["metrics"]["splits"]["test"]
    assert of_test["intervals"].keys() == of_test["truncated"]["intervals"].keys() == of_test["systems"].keys()
    assert len(content["studies"]["rows"]) == 60
    assert all("bleu_4" in row["scores"] for row in content["studies"]["rows"])


def test_a_page_written_without_studies_has_none_after_an_update(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    assert shown_studies(run, count=0) == ("test", [])
    assert shown(write_page(run, images={}))["studies"]["rows"] == []
    assert shown(write_page(run))["studies"]["rows"] == []


def test_test_reports_of_an_older_checkpoint_are_not_shown_while_training_continues(tmp_path: Path) -> None:
    run = with_predictions(finished_run(tmp_path / "run"), split="val", count=9)
    write_json(
        run / "metrics.json", {"generation": "greedy", "splits": {"val": {"studies": 9, "systems": {"model": {}}}}}
    )
    assert shown(write_page(run, images={}))["studies"]["split"] == "val"
    assert shown_studies(run) == ("val", chosen_studies(study_ids(run, split="val")))


def test_an_update_of_the_status_keeps_studies_and_images(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    split_and_ids = shown_studies(run, count=5)
    assert split_and_ids is not None
    before = shown(write_page(run, images={study: [image(1)] for study in split_and_ids[1]}))["studies"]["rows"]
    description = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**description, "status": "stopped", "reason": "stopped by a signal"})
    after = shown(write_page(run))
    assert after["run"]["status"] == "stopped"
    assert after["studies"]["rows"] == before
    assert [row["id"] for row in before if row["images"]] == split_and_ids[1]
    assert len(before) == 60
    assert shown(write_page(started_run(tmp_path / "new")))["studies"] is None


@pytest.mark.parametrize("name", ["run.json", "config.yaml"])
def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path, name: str) -> None:
    run = started_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(UserError, match=name):
        write_page(run, images={})


def test_an_incomplete_last_line_is_ignored_and_any_other_broken_line_is_an_error(tmp_path: Path) -> None:
    run = with_training(started_run(tmp_path / "run"), steps=20, every=10)
    path = run / "train.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "step", "step": 30, "lo')
    assert [row["step"] for row in shown(write_page(run, images={}))["curves"]["steps"]] == [10, 20]
    path.write_bytes(whole + b'{"event": "st\n' + whole)
    with pytest.raises(UserError, match=r"train\.jsonl, line 3"):
        write_page(run, images={})


def test_steps_trained_twice_are_taken_from_the_later_training(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    steps = [
        {"event": "step", "step": step, "loss": loss} for step, loss in ((10, 3.0), (20, 2.0), (30, 1.9), (20, 2.5))
    ]
    write_lines(run / "train.jsonl", steps)
    rows = shown(write_page(run, images={}))["curves"]["steps"]
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 3.0), (20, 2.5)]


def test_thinned_curves_keep_spikes_and_losses_that_are_nan(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    rows = [{"event": "step", "step": step, "loss": 1 + 1 / step} for step in range(1, 50_001)]
    rows[31_234]["loss"], rows[44_444]["loss"] = 99.0, math.nan
    write_lines(run / "train.jsonl", rows)
    curves = shown(write_page(run, images={}))["curves"]
    losses = [row["loss"] for row in curves["steps"]]
    assert len(losses) < 2000
    assert curves["logged"] == 50_000
    assert 99.0 in losses
    assert None in losses
    assert (curves["steps"][0]["step"], curves["steps"][-1]["step"]) == (1, 50_000)


def test_predictions_without_a_header_are_refused(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    write_lines(run / "predictions" / "val.greedy.jsonl", [{"id": "a", "report": "x", "reference": "y"}])
    with pytest.raises(UserError, match="line 1: not a header"):
        write_page(run, images={})


def test_a_page_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started_run(tmp_path / "run")
    old = write_page(run, images={}).read_bytes()

    def full_disk(self: Path, target: Path) -> Path:
        assert (run / "report.html").read_bytes() == old
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_page(run, images={})
    assert (run / "report.html").read_bytes() == old
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "report.html", "run.json"]


def test_images_are_small_gray_jpegs_of_the_studies_shown(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=30)
    images = {study: [image(1), image(2, size_px=200)] for study in chosen_studies(study_ids(run))}
    rows = shown(write_page(run, images=images))["studies"]["rows"]
    assert [row["id"] for row in rows] == sorted(study_ids(run))
    assert [row["id"] for row in rows if row["images"]] == chosen_studies(study_ids(run))
    for row in (row for row in rows if row["images"]):
        views = [
            Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
            for uri in row["images"]
        ]
        assert [(view.mode, view.size) for view in views] == [("L", (480, 480)), ("L", (200, 200))]


def test_the_page_of_any_images_stays_under_six_megabytes(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=24)
    grain = Image.effect_noise((700, 700), 120)  # noise compresses worst as JPEG
    page = write_page(run, images={study: [grain] * 4 for study in study_ids(run)})
    assert page.stat().st_size < 6_000_000


def test_of_more_studies_than_fit_an_even_share_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=60)
    pictured = study_ids(run)[7]
    monkeypatch.setattr("r2gen.pages.run.TEXT_BYTES", 5_000)
    content = shown(write_page(run, images={pictured: [image(1)]}))["studies"]
    assert content["total"] == 60
    assert 5 < len(content["rows"]) < 30
    assert pictured in {row["id"] for row in content["rows"]}


def test_findings_are_those_of_both_texts_and_an_update_keeps_them(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=3, text="Small left pneumothorax, possible edema.")
    page = write_page(run, images={study: [] for study in study_ids(run)}, findings_of=stated_findings)
    stated = ["Edema (uncertain)", "Pneumothorax"]
    assert shown(page)["studies"]["rows"][0]["findings"] == {"reference": stated, "report": stated}
    assert shown(write_page(run))["studies"]["rows"][0]["findings"]["report"] == stated
    with_predictions(run, count=3, text="Clear lungs.")  # they are not those of these texts any more
    assert shown(write_page(run))["studies"]["rows"][0]["findings"] == {}


def test_the_page_shows_what_the_prompts_have_and_an_update_keeps_it(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=2)
    first, second = study_ids(run)
    prior = Prior("before", ("old.png",), report="Clear.", days=12.0)
    full = Study(first, ("a.png",), "", positions=("PA",), indication=HOSTILE, age=51.0, prior=prior)
    data: Any = SimpleNamespace(image=lambda view, *, at_least_px: image(1, size_px=32))
    expected = {"Indication": HOSTILE, "Prior images": "1", "Prior days": "12", "Prior report": "Clear."}
    for name, context in (("indication_prior", expected | {"Positions": "PA"}), ("none", {})):
        options = composed(f"context={name}").context
        dataset: Any = SimpleNamespace(
            studies=[full, Study(second, ("b.png",), "")], context=StudyContext(options, encode=lambda text: [])
        )
        RunPage(run, data, {"test": dataset}, 2).write()
        rows = shown(run / "report.html")["studies"]["rows"]
        assert [row["context"] for row in rows] == [context, {}]
        assert [row["context"] for row in shown(write_page(run))["studies"]["rows"]] == [context, {}]
        text = shown_text(run / "report.html")
        assert ("In the prompt: indication, prior images, prior days, prior report, positions" in text) == bool(context)
        assert ("Prior report: Clear." in text) == bool(context)


def test_the_page_says_which_prompts_do_not_have_all_that_it_shows(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=2)
    long, short = (Study(id, (), "", indication=text) for id, text in zip(study_ids(run), ("x" * 50, "x"), strict=True))
    options = composed("context=indication", "context.max_tokens=40").context
    context = StudyContext(options, encode=lambda text: list(text.encode()))
    dataset: Any = SimpleNamespace(studies=[long, short], context=context)
    data: Any = SimpleNamespace()  # the studies have no image
    RunPage(run, data, {"test": dataset}, 2).write()
    contexts = {row["id"]: row["context"] for row in shown(run / "report.html")["studies"]["rows"]}
    assert contexts == {
        long.id: {"Indication": "x" * 50, "Cut to 40 tokens": CUT_FIRST},
        short.id: {"Indication": "x"},
    }


def test_the_images_of_a_page_are_read_once_for_all_validations(tmp_path: Path) -> None:
    run = with_predictions(started_run(tmp_path / "run"), count=9)
    read = list[str]()

    class Data:
        def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
            read.append(view)
            return image(1, size_px=32)

    studies = [Study(id=id, views=(id,), report="") for id in study_ids(run)]
    dataset: Any = SimpleNamespace(studies=studies, context=None)
    data: Any = Data()
    for count, reads in ((4, 4), (4, 4), (5, 9)):
        RunPage(run, data, {"test": dataset}, count).write()
        assert len(read) == reads
        rows = shown(run / "report.html")["studies"]["rows"]
        assert sum(bool(row["images"]) for row in rows) == count
        assert rows[0]["findings"]["report"]


def test_a_run_links_to_the_sweeps_and_comparisons_next_to_it(tmp_path: Path) -> None:
    run, other = started_run(tmp_path / "run"), tmp_path / "compare #1"
    for folder, name, record in (
        (tmp_path / "sweep-a", "sweep.json", {"jobs": [{"run_dir": "../run"}, {"run_dir": None}]}),
        (other, "comparison.json", {"systems": [{"kind": "run", "source": str(run)}]}),
        (tmp_path / "sweep-b", "sweep.json", {"jobs": [{"run_dir": "../another"}]}),
        (tmp_path / "sweep-c", "sweep.json", ["not a sweep"]),
    ):
        folder.mkdir()
        write_json(folder / name, record)
    assert shown(write_page(run, images={}))["links"] == [
        {"label": "sweep-a", "href": "./../sweep-a/sweep.html"},
        {"label": "compare #1", "href": "./../compare%20%231/compare.html"},
    ]


def test_studies_are_chosen_evenly_and_reproducibly() -> None:
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
            made,
            images={study: [image(n), image(n + 3)] for n, study in enumerate(chosen_studies(study_ids(made)))},
            findings_of=stated_findings,
        )
    )
