"""A package that is not installed is one message; a missing module start R2Gen is a defect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from smallest_run import ROOT

from r2gen.errors import missing_package

WITHOUT = "import runpy, sys; sys.modules[sys.argv.pop(1)] = None; sys.argv.pop(0); runpy.{}"


@pytest.mark.parametrize(
    ("package", "start"),
    [
        ("hydra", "run_path('run.py', run_name='__main__')"),
        ("omegaconf", "run_path('run.py', run_name='__main__')"),
        ("timm", "run_module('r2gen.tasks.worker', run_name='__main__')"),
    ],
)
def test_a_missing_package_is_one_message(package: str, start: str, tmp_path: Path):
    command = [sys.executable, "-c", WITHOUT.format(start), package, "run.py", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: the package {package} is not installed: pip install -c constraints.txt -e .\n"
    assert not list(tmp_path.iterdir())


def test_run_py_imports_no_package_before_it_can_say_which_one_is_missing():
    program = (
        "import sys, run; print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    command, environment = [sys.executable, "-S", "-c", program], {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("__main__ r2gen run\n", "")


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("bitsandbytes", "quant"),
        ("pydicom", "dicom"),
        ("openjpeg", "dicom"),
        ("rouge_score", "scores"),
        ("submitit", "slurm"),
        ("optuna", "search"),
        ("wandb_workspaces", "dashboard"),
        ("radgraph.utils", "radgraph"),
    ],
)
def test_the_message_names_the_extra_of_the_package_alone(package: str, extra: str):
    message = str(missing_package(ModuleNotFoundError(f"No module named '{package}'", name=package)))
    assert message.endswith(f": pip install -c constraints.txt -e '.[{extra}]'")


def test_a_missing_module_of_r2gen_is_a_defect():
    assert missing_package(ModuleNotFoundError("No module named 'r2gen.gone'", name="r2gen.gone")) is None
    assert missing_package(ModuleNotFoundError("a package that torch has not")) is None
    assert missing_package(ImportError("cannot import name")) is None
