"""task=dashboard without a network: the specification on disk groups, filters and charts the sweep's runs."""

import json
from pathlib import Path

import pytest
import yaml
from composed import composed
from smallest_run import ROOT, run

from r2gen.errors import DONE, UserError
from r2gen.runs.provenance import now
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.tasks import dashboard

pytest.importorskip("wandb_workspaces")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydantic's, of wandb-workspaces
WANDB = ["task=dashboard", "logger=wandb", "logger.mode=offline"]


def sweep(folder: Path) -> Path:
    """The folder of a sweep with two jobs that differ in language model and learning rate; one has begun."""
    night = SweepFolder(folder / "night")
    night.create()
    begun = folder / "train-tiny-phantom-0123abcd"
    begun.mkdir()
    (begun / "run.json").write_text("{}")
    stored = {
        "data": {},
        "choices": {},
        "metrics": {"bleu": {"_target_": "r2gen.evaluate.nlg.Bleu"}, "cider": {"_target_": "r2gen.evaluate.nlg.Cider"}},
        "lm": {"path": None},
        "evaluate": {"splits": ["val", "test"]},
    }
    (begun / "config.yaml").write_text(yaml.safe_dump(stored))
    jobs = [
        JobRecord(0, ["seed=1", "trainer.learning_rate=0.1", "lm=tiny"], run_dir=str(begun)),
        JobRecord(1, ["seed=1", "trainer.learning_rate=0.2", "lm=qwen2"]),
    ]
    night.write(SweepRecord("night", "python run.py -m", [], now(), jobs=jobs))
    return night.path


def test_the_specification_compares_the_sweeps_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = sweep(tmp_path)
    assert dashboard.dashboard(composed(*WANDB, f"sweep={folder}"), []) == DONE
    assert "To publish it: `wandb login`" in capsys.readouterr().out
    spec = json.loads((folder / "dashboard.json").read_text())["spec"]["section"]
    (runs,) = spec["runSets"]
    assert [(rule["key"]["name"], rule["value"]) for rule in runs["filters"]["filters"]] == [("group", "night")]
    assert [group["name"] for group in runs["grouping"]] == ["lm.value"]
    sections = {section["name"]: section["panels"] for section in spec["panelBankConfig"]["sections"]}
    scores = [panel["config"] for panel in sections["Scores by lm"]]
    finals = [f"best/test/{score}" for score in ("bleu_4", "cider")]
    assert [plot["metrics"] for plot in scores] == [[f"summary_metrics.{final}"] for final in finals]
    curves = [panel["config"] for panel in sections["Curves by lm"]]
    assert {plot["metrics"][0] for plot in curves} >= {"train/loss", "val/bleu_4"}
    assert {(plot["xAxis"], plot["groupBy"]) for plot in curves} == {("step", "lm.value")}
    (parallel,) = sections["Options and scores"]
    assert [column["accessor"] for column in parallel["config"]["columns"]] == [
        "config:lm.value",
        "config:yaml.value.trainer.learning_rate",
        *(f"summary:{final}" for final in finals),
    ]
    assert {"summary:cost/train_seconds", "summary:cost/trainable_parameters"} <= {
        panel["config"].get("xAxis") for panel in sections["Cost"]
    }


def test_a_missing_option_or_folder_is_named(tmp_path: Path):
    for overrides, message in (
        (WANDB, "sweep=DIR"),
        (["task=dashboard", "sweep=x"], "give logger=wandb"),
        ([*WANDB, f"sweep={tmp_path}"], "not the folder of a sweep"),
    ):
        with pytest.raises(UserError, match=message):
            dashboard.dashboard(composed(*overrides), [])
    done = run("sweep=x", "lm=tiny", cwd=tmp_path, smallest=False)
    assert done.returncode == 2
    assert "sweep=x is for task=compare, task=status and task=dashboard" in done.stderr


def test_the_commands_of_a_wandb_agent_compose():
    """The agent replaces ${args_no_hyphens} by a value of each parameter."""
    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb" / "tune.yaml").read_text(encoding="utf-8"))
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "${program}"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert sweep["metric"] == {"name": "val/selection", "goal": "maximize"}
    for last in (0, -1):
        values = {
            name: spec["values"][last] if "values" in spec else spec["max" if last else "min"]
            for name, spec in sweep["parameters"].items()
        }
        composed(*sweep["command"][3:-1], *(f"{name}={value}" for name, value in values.items()))
