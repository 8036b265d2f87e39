"""Libraries import no package, and look for no file, for functions that are not called here."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from smallest_run import ROOT

from r2gen.unused import packages_distributions, without_looking_for_files

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


def test_the_distributions_of_packages_are_those_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    information = tmp_path / "old-1.0.egg-info"
    information.mkdir()
    (information / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n")
    (information / "SOURCES.txt").write_text("old_module.py\nold_package/part.py\n")
    for source in ("old_module.py", "old_package/part.py"):
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    own, standard = packages_distributions(), importlib.metadata.packages_distributions()
    assert len(standard) > 50
    assert standard["old_module"] == standard["old_package"] == ["old"]
    assert all(set(distributions) <= set(own[name]) for name, distributions in standard.items())
    with without_looking_for_files():
        assert importlib.metadata.packages_distributions is packages_distributions
    assert importlib.metadata.packages_distributions() == standard
