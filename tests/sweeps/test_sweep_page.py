"""sweep.html and the tables of any set of run folders."""

import csv
import io
import json
import re
import stat
from pathlib import Path

import pytest
from fake_sweep import Cell, cells, make, run_of, unscored

from r2gen.errors import UserError
from r2gen.evaluate.statistics import join_seeds
from r2gen.pages.document import FOLDER, content_of
from r2gen.runs.folder import RunFolder
from r2gen.sweeps.job_results import means_over_seeds, results_of, shared_choices, with_recorded_quant
from r2gen.sweeps.page import STUDIES, write_sweep_page
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.table import comma_separated, markdown, write_tables

HOSTILE = "</script><script>alert(1)</script> | <img src=x onerror=alert(2)> \u2028 @@DATA@@ `x`"
SAME = ("qwen2", "none", "1e-4")


def test_a_page_of_fifty_runs_has_less_than_five_megabytes(tmp_path: Path) -> None:
    page = make(tmp_path / "sweep", 50)
    content = content_of(page)
    assert page.stat().st_size < 5_000_000
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert len(content["rows"]) == 52
    assert content["columns"] == ["lm", "quant", "trainer.learning_rate", "seed"]
    assert content["shared"] == {"vision": "swin_base", "data": "iu_xray", "generation": "greedy"}
    assert all(len(job["losses"]) <= 170 for job in content["rows"])
    assert [len(study["reports"]) for study in content["studies"]] == [50] * STUDIES
    assert all(len(study["images"]) == 2 for study in content["studies"])
    assert content["rows"][0]["link"] == "./run-00/report.html"
    assert [job["reason"] for job in content["rows"][-2:]] == [
        "lm=t5 with quant=int8 is no pair",
        "killed by the memory limit, logs/051.log",
    ]


def test_a_baseline_of_several_runs_is_shown_once_with_the_runs_that_have_it(tmp_path: Path) -> None:
    results = results_of([run_of(tmp_path / f"{seed}", Cell(*SAME, seed)) for seed in (1, 2)])
    results += results_of([run_of(tmp_path / "other", Cell(*SAME, 3), truncation="60 tokens")])
    content = content_of(write_sweep_page(tmp_path / "sweep.html", results, title="baselines"))
    assert [(baseline["name"], len(baseline["jobs"])) for baseline in content["baselines"]] == [
        ("constant", 2),
        ("constant", 1),
    ]
    assert content["baselines"][0]["scores"]["test"]["cider"]["value"] == pytest.approx(0.85 * 0.42)
    assert set(content["rows"][0]["margins"]["test"]) == {"bleu_1", "bleu_4", "rouge_l", "cider"}


def test_the_first_column_is_what_the_command_varied_first(tmp_path: Path) -> None:
    jobs = [
        JobRecord(number, [f"trainer.learning_rate={rate}", "seed=1", f"lm={lm}"], {"lm": lm})
        for number, (rate, lm) in enumerate([("1e-4", "a"), ("1e-5", "b")])
    ]
    assert list(results_of(jobs)[0].choices) == ["trainer.learning_rate", "lm"]


def test_costs_are_those_of_the_runs(tmp_path: Path) -> None:
    jobs = [run_of(tmp_path / "a", Cell(*SAME, 1)), run_of(tmp_path / "b", Cell(*SAME, 2))]
    results = results_of(jobs)
    assert [result.name for result in results] == ["seed=1", "seed=2"]
    assert shared_choices(jobs)["lm"] == "qwen2"
    cost = results[0].cost
    assert cost.device == "2 x NVIDIA H200"
    assert cost.device_seconds is not None
    assert cost.total_seconds == pytest.approx(cost.device_seconds / 2 + 300)
    assert cost.trainable in (4_200_000, 12_200_000)


def test_a_checkpoint_that_was_quantised_before_is_shown_as_what_it_is(tmp_path: Path) -> None:
    jobs = [run_of(tmp_path / "a", Cell(*SAME, 1)), run_of(tmp_path / "b", Cell(*SAME, 2))]
    RunFolder(tmp_path / "b").record(quant="nf4 (in the checkpoint)")
    jobs = [with_recorded_quant(job) for job in jobs]
    assert [result.choices["quant"] for result in results_of(jobs)] == ["none", "nf4 (in the checkpoint)"]
    assert "quant" not in shared_choices(jobs)


def test_means_over_seeds_have_students_interval_and_one_recipe(tmp_path: Path) -> None:
    jobs = [run_of(tmp_path / f"{seed}", Cell(*SAME, seed)) for seed in (1, 2, 3)]
    jobs += [run_of(tmp_path / "4", Cell(*SAME, 4), truncation="60 tokens")]
    results = results_of(jobs)
    means = means_over_seeds(results)
    assert [group.seeds for group in means] == [("1", "2", "3"), ("4",)]
    values = [result.scores["test"]["cider"].value for result in results[:3]]
    assert means[0].scores["test"]["cider"] == join_seeds(values)
    assert "The jobs were not all scored alike" in markdown(results, title="seeds")
    assert not content_of(write_sweep_page(tmp_path / "sweep.html", results, title="seeds"))["alike"]
    assert means_over_seeds(results[:1]) == []


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    jobs = [
        run_of(tmp_path / "a", Cell(*SAME, 1), text=HOSTILE),
        unscored(Cell(*SAME, 2), state="failed", reason=HOSTILE),
    ]
    results = results_of(jobs)
    page = write_sweep_page(tmp_path / "sweep.html", results, title=HOSTILE, command=HOSTILE)
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == (FOLDER / "document.html").read_text(encoding="utf-8").count("<script")
    assert "<img src=x" not in text
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|innerHTML|import\(", text)
    table = markdown(results, title=HOSTILE)
    assert "<" not in table
    assert all(line.count("|") - line.count("\\|") == 4 for line in table.splitlines() if "failed" in line)
    assert list(csv.DictReader(io.StringIO(comma_separated(results))))[-1]["state"] == "failed"


def test_tables_have_a_line_for_each_job_with_its_reason(tmp_path: Path) -> None:
    jobs = [run_of(tmp_path / f"{number}", cell) for number, cell in enumerate(cells(6))]
    jobs.append(unscored(Cell("t5", "int8", "1e-4", 1), state="skipped", reason="no such pair"))
    _, table = write_tables(tmp_path, results_of(jobs), title="families")
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 2 + 1
    assert {line["split"] for line in lines} == {"val", "test", ""}
    first = lines[0]
    assert float(first["cider_low"]) < float(first["cider"]) < float(first["cider_high"])
    assert (first["lm"], first["seed"], lines[-1]["reason"]) == ("llama2", "1", "no such pair")
    unscored_row = "| lm=t5 quant=int8 trainer.learning_rate=1e-4 seed=1 | skipped | no such pair |"
    assert unscored_row in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_job_that_does_not_compose_adds_no_column() -> None:
    chosen = {"lm": "tiny", "vision": "tiny", "compat": "none"}
    jobs = [JobRecord(0, ["lm=tiny"], chosen), JobRecord(1, ["lm=nope"], {}, state="failed")]
    assert [result.choices for result in results_of(jobs)] == [{"lm": "tiny"}, {"lm": "nope"}]
    assert shared_choices(jobs) == {"vision": "tiny", "compat": "none"}


def test_a_sweep_without_scores_has_a_page(tmp_path: Path) -> None:
    results = results_of([unscored(Cell(*SAME, seed), state="failed", reason="it broke") for seed in (1, 2)])
    content = content_of(write_sweep_page(tmp_path / "sweep.html", results, title="all failed"))
    assert (content["splits"], content["studies"], len(content["rows"])) == ({}, [], 2)
    assert content_of(write_sweep_page(tmp_path / "sweep.html", [], title="none"))["rows"] == []


def test_a_broken_metrics_file_is_named(tmp_path: Path) -> None:
    job = run_of(tmp_path / "a", Cell(*SAME, 1))
    (tmp_path / "a" / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json: does not contain the scores"):
        results_of([job])


def test_a_study_with_a_huge_report_is_left_out(tmp_path: Path) -> None:
    job = run_of(tmp_path / "a", Cell(*SAME, 1))
    file = tmp_path / "a" / "predictions" / "test.greedy.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines[1]["report"] = "no " * 600_000
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    shown = content_of(write_sweep_page(tmp_path / "sweep.html", results_of([job]), title="huge"))["studies"]
    assert len(shown) == STUDIES - 1
    assert lines[1]["id"] not in {study["id"] for study in shown}
