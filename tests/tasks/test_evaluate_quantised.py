"""A run is evaluated with a quantised language model: the scores have a file of their own, which says so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from composed import composed
from forked_run import run
from quantised_model import write_llama
from smallest_run import SMALLEST

from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder
from r2gen.runs.job_file import write_job
from r2gen.runs.stored import for_task
from r2gen.tasks.scoring import profile_name


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    config = composed("lm=llama2", f"lm.path={tmp_path}", "quant=int8", "generation=beam3")
    write_job(folder.config_file, replace(config, run_dir=str(folder.path)))
    folder.record(git={"revision": "0"}, status="finished", overrides=[], identity="0", seconds={})
    return folder


@pytest.mark.parametrize(
    ("overrides", "profile", "quant"),
    [
        ([], "beam3", "int8"),
        (["quant=int8"], "beam3", "int8"),
        (["quant=fp8"], "beam3-fp8", "fp8"),
        (["quant=none", "generation=greedy"], "greedy-none", "none"),
    ],
)
def test_the_name_of_the_scores_has_another_quantisation_than_that_of_the_training(
    folder: RunFolder, overrides: list[str], profile: str, quant: str
):
    passed = {"task": "evaluate", "run_dir": str(folder.path)}
    config = for_task(passed, ["task=evaluate", f"run_dir={folder.path}", *overrides])
    assert profile_name(config) == profile
    assert (config.quant.mode, config.choices["quant"]) == (quant, quant)


def test_an_export_keeps_the_quantisation_of_the_run(folder: RunFolder):
    with pytest.raises(UserError, match=r"quant=fp8: the run in .* has this fixed"):
        for_task({"task": "export", "run_dir": str(folder.path)}, ["task=export", "quant=fp8"])


@pytest.mark.slow
def test_the_scores_of_a_quantised_model_are_next_to_those_of_the_run(tmp_path: Path):
    lm = write_llama(tmp_path / "lm")
    smallest = [override for override in SMALLEST if not override.startswith("lm.")]
    options = [
        "lm=llama2",
        f"lm.path={lm}",
        "trainer.max_steps=2",
        "evaluate.splits=[val]",
        "evaluate.nearest_studies=0",
    ]
    done = run(*smallest, *options, "generation=beam3", "run_dir=run", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    own = (tmp_path / "run" / "metrics.json").read_text()
    evaluate = ("task=evaluate", "run_dir=run", "evaluate.splits=[val]", "evaluate.nearest_studies=0")

    done = run(*evaluate, "quant=fp8", cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "metrics.json").read_text() == own
    rounded = json.loads((tmp_path / "run" / "metrics.beam3-fp8.json").read_text())
    assert (json.loads(own)["made_by"]["quant"], rounded["made_by"]["quant"]) == ("none", "fp8")
    header = json.loads((tmp_path / "run" / "predictions" / "val.beam3-fp8.jsonl").read_text().splitlines()[0])
    assert "fp8" in str(header)
