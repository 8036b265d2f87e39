"""The recipes of R2GenGPT have its values, and compat=r2gengpt scores against full and cut references."""

import json
from pathlib import Path

import pytest
import yaml
from composed import composed
from forked_run import run
from smallest_run import ROOT

from r2gen.errors import UserError

RECIPES = [
    f"r2gengpt_{mode}_{data}"
    for mode in ("shallow", "delta", "deep")
    for data in ("iu", "mimic")
    if data == "iu" or (ROOT / "conf/data/mimic_cxr.yaml").is_file()
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_values_of_r2gengpt(recipe: str):
    _, mode, data = recipe.split("_")
    config = composed(f"experiment={recipe}", "data.root=/data", "lm.path=/lm", "vision.path=/swin")
    assert config.tune.vision == {"shallow": "frozen", "delta": "lora", "deep": "full"}[mode]
    assert config.data.arguments["images"] == "images", "the last part of the --base_dir of R2GenGPT"
    assert config.trainer.epochs == {"iu": 15, "mimic": 5}[data]
    assert config.evaluate.max_reference_tokens == {"iu": 60, "mimic": 100}[data]
    assert config.generation["max_new_tokens"] == {"iu": 100, "mimic": 120}[data]
    assert config.trainer.learning_rate == 1e-4
    assert config.trainer.max_report_tokens is None
    assert config.evaluate.reference == "full"
    assert config.trainer.shuffle


@pytest.mark.parametrize("recipe", RECIPES)
def test_compat_sets_the_choices_in_which_r2gengpt_differs(recipe: str):
    config = composed(f"experiment={recipe}", "compat=r2gengpt", "data.root=/data", "lm.path=/lm", "vision.path=/swin")
    assert config.evaluate.reference == "truncated"
    assert config.trainer.max_report_tokens == config.evaluate.max_reference_tokens
    assert config.trainer.schedule == "cosine_per_epoch"
    assert not config.trainer.shuffle
    assert config.trainer.weight_decay_on == "all"


def test_compat_without_a_length_is_refused():
    with pytest.raises(UserError, match=r"evaluate\.max_reference_tokens"):
        composed("compat=r2gengpt")


def test_every_recipe_names_its_sources():
    for file in (ROOT / "conf/experiment").glob("r2gengpt_*.yaml"):
        text = file.read_text(encoding="utf-8")
        assert all(title in text for title in ("# Command:", "# Cost:", "# Expected:", "# Sources:")), file.name
        assert text.count("\n") <= 30
        assert yaml.safe_load(text)["trainer"]["gradient_clipping"] == 0


SYSTEMS = {"model", "constant", "random", "nearest", "shuffled"}


def test_a_run_with_compat_is_scored_against_full_and_cut_references(tmp_path: Path):
    done = run(
        "compat=r2gengpt",
        "evaluate.max_reference_tokens=40",
        "trainer.warmup_steps=0",
        "run_dir=run",
        "verbose=true",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for split in ("val", "test"):
        entry = metrics["splits"][split]
        assert entry["truncated"]["tokens"] == 40
        assert set(entry["truncated"]["systems"]) == set(entry["systems"]) == SYSTEMS
        assert entry["truncated"]["systems"]["model"] != entry["systems"]["model"]
    assert "against references cut to 40 tokens" in done.stdout
    assert "R2GenGPT's choices that were on" in done.stdout
    assert len(metrics["original_choices"]) == 5
    page = (tmp_path / "run" / "report.html").read_text()
    assert "comparable only with this language model" in page
    lines = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    assert len({line["lr"] for line in lines if line["event"] == "step"}) == 2, "one rate per epoch"
    reference = json.loads((tmp_path / "run/predictions/test.greedy.jsonl").read_text().splitlines()[1])["reference"]
    assert reference.endswith("."), "predictions have the full reference"
