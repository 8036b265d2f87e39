"""One place each: what only one module may do, held against the source."""

import re
from pathlib import Path

import pytest
from smallest_run import ROOT

SOURCES = sorted((ROOT / "r2gen").rglob("*.py"))
ONLY_IN = {
    r"\binstantiate\(": {"build.py", "tasks/compare.py", "tasks/audit.py", "config/targets.py"},
    r"\brequires_grad(_\(|\s*=)": {"model/tune.py"},
    r"torch\.distributed": {"ranks/dist.py"},
    r"import wandb|from wandb": {"train/loggers.py", "tasks/dashboard.py"},
    r"import deepspeed|from deepspeed": {"train/engine.py"},
    r"weights_only=False|trust_remote_code=True|pickle\.load": set(),
    r"\bcfg\.get\(": set(),
    r"except:|except Exception: *pass": set(),
}


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_a_switch_point_is_in_one_place(pattern: str):
    found = {str(file.relative_to(ROOT / "r2gen")) for file in SOURCES if re.search(pattern, file.read_text("utf-8"))}
    assert found == ONLY_IN[pattern] or (not ONLY_IN[pattern] and not found), found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_short_and_says_what_it_is_for(file: Path):
    text = file.read_text(encoding="utf-8")
    assert text == "" or text.startswith('"""')
    assert text.count("\n") <= 350
    assert file.stem not in {"utils", "base", "helper", "manager", "common"}
