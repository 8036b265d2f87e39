"""Libraries do not import packages for functions that are not called here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from smallest_run import ROOT

UNUSED = ("sklearn", "scipy", "wandb")


@pytest.mark.slow
def test_a_rank_imports_no_package_that_it_does_not_use(tmp_path: Path):
    for package in UNUSED:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError(f'{__name__} is imported')")
    code = (
        "import importlib.util, sys, r2gen.tasks.worker, r2gen.tasks.train\n"
        f"print([package for package in {UNUSED} if package in sys.modules])\n"
        f"print([package for package in {UNUSED} if importlib.util.find_spec(package) is None])"
    )
    paths = os.pathsep.join(map(str, (tmp_path, ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]
