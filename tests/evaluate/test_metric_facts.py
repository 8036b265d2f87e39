"""What a metric's class states about itself is all that the rest of the program knows about it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from smallest_run import ROOT, SMALLEST

from r2gen.config.metrics import with_absolute_weights
from r2gen.config.targets import Target, class_of
from r2gen.errors import UserError
from r2gen.evaluate.scores import LAST_COLUMN
from r2gen.pages.document import content_of
from r2gen.runs.identity import identity
from r2gen.runs.untrusted import read_jsonl

FILES = sorted((ROOT / "conf/metrics").glob("*.yaml"))
METRICS = {file.stem: Target(yaml.safe_load(file.read_text("utf-8"))[file.stem]["_target_"]) for file in FILES}
CHEXBERT = Target("r2gen.evaluate.chexbert.CheXbert")
BLEU = Target("r2gen.evaluate.nlg.Bleu", {"tokenizer": "space"})


def test_metric_classes_are_imported_without_torch_and_java() -> None:
    code = "import importlib, subprocess, sys\nsubprocess.Popen.__init__ = None\n"
    for target in METRICS.values():
        code += f"importlib.import_module({target.name.rpartition('.')[0]!r})\n"
    code += "print(*({'torch', 'transformers', 'radgraph', 'sacrebleu'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_score_has_a_name_a_title_and_a_column_of_its_own() -> None:
    specs = [spec for target in METRICS.values() for spec in class_of(target).scores]
    columns = [spec.column for spec in specs if spec.column not in (None, LAST_COLUMN)]
    for values in ([spec.name for spec in specs], [spec.title for spec in specs], columns):
        assert len(set(values)) == len(values)


def test_only_paths_of_weights_leave_the_identity_of_a_run() -> None:
    def of(**arguments: str) -> str:
        node = {"_target_": CHEXBERT.name, **arguments}
        return identity({"metrics": {"chexbert": node}}, "data")

    assert of(path="/here", bert="/here") == of(path="/there", bert="/there") == of()
    assert of(uncertain="negative") != of(uncertain="positive")


def test_paths_of_weights_become_absolute_and_null_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chexbert.pth").touch()
    monkeypatch.chdir(tmp_path)
    metrics = {"chexbert": CHEXBERT.with_arguments(path="chexbert.pth", bert=None), "bleu": BLEU}
    checked = with_absolute_weights(metrics)
    assert checked["chexbert"].arguments == {"path": str(tmp_path / "chexbert.pth"), "bert": None}
    assert checked["bleu"] == BLEU


@pytest.mark.parametrize("option", ["path", "bert"])
def test_a_missing_path_of_weights_is_refused_by_its_option(option: str) -> None:
    with pytest.raises(UserError, match=rf"metrics\.chexbert\.{option}=/nowhere/x does not exist"):
        with_absolute_weights({"chexbert": CHEXBERT.with_arguments(**{option: "/nowhere/x"})})


MADE_UP = '''
"""Two metrics for a test."""

from collections.abc import Mapping

from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import signature
from r2gen.evaluate.study_sums import StudySums, mean_sums


class SharedWords:
    """The share of a reference's words that the report has."""

    name = "shared_words"
    scores = (ScoreSpec("shared_words", "Shared words", column=0),)
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        values = {
            id: len(set(text.split()) & set(reports[id].split())) / len(set(text.split()))
            for id, text in references.items()
        }
        return Scores(
            corpus={self.name: sum(values.values()) / len(values)},
            per_report={self.name: values},
            signatures={self.name: signature(implementation="test", version="1")},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)


class LongestGap:
    """The largest difference in words between a report and its reference."""

    name = "longest_gap"
    scores = (ScoreSpec("longest_gap", "Longest gap", higher_is_better=False),)
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        gaps = [abs(len(text.split()) - len(reports[id].split())) for id, text in references.items()]
        return Scores(
            corpus={self.name: float(max(gaps))},
            signatures={self.name: signature(implementation="test", version="1")},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return None
'''


def test_a_new_metric_costs_one_class_and_one_yaml(tmp_path: Path) -> None:
    """In a copy of the code, to which nothing but these files is added."""
    for name in ("r2gen", "conf", "hydra_plugins", "sweeps"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    (tmp_path / "r2gen/evaluate/made_up.py").write_text(MADE_UP, encoding="utf-8")
    for kind in ("SharedWords", "LongestGap"):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
        yaml = f"{name}:\n  _target_: r2gen.evaluate.made_up.{kind}\n"
        (tmp_path / f"conf/metrics/{name}.yaml").write_text(yaml, encoding="utf-8")

    def command(*overrides: str) -> subprocess.CompletedProcess[str]:
        words = [
            sys.executable,
            "run.py",
            *(word for word in SMALLEST if not word.startswith("metrics=")),
            "metrics=[longest_gap,shared_words]",
            "~metrics.phantom_findings",
            *overrides,
        ]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    refused = command("evaluate.best=bleu_4")
    assert "with one of longest_gap, shared_words" in refused.stderr
    done = command("run_dir=run", "evaluate.best=longest_gap", "verbose=true")
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("test: 8 studies") :]
    assert table.split("\n")[1].split() == ["shared_words", "longest_gap"]
    assert "model, 95 %: shared_words 0." in table
    assert "no interval: longest_gap; such a score is not computed from sums over studies" in " ".join(table.split())
    validations = [event for event in read_jsonl(tmp_path / "run/train.jsonl") if event["event"] == "validation"]
    assert [event["selection"] for event in validations] == [-event["scores"]["longest_gap"] for event in validations]
    specs = content_of(tmp_path / "run/report.html")["score_specs"]
    assert {spec["name"]: spec["title"] for spec in specs} == {
        "longest_gap": "Longest gap",
        "shared_words": "Shared words",
    }
