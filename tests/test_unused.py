"""Libraries import no package, and look for no file, for functions that are not called here."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from smallest_run import ROOT

from r2gen.unused import Distributions, without_looking_for_files

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
    standard = importlib.metadata.packages_distributions()
    assert len(standard) > 50
    assert standard["old_module"] == standard["old_package"] == ["old"]
    with without_looking_for_files():
        own = importlib.metadata.packages_distributions()
    assert isinstance(own, Distributions)
    assert importlib.metadata.packages_distributions() == standard
    by_name = {name for name in standard if own.get(name) == [name]}
    assert {"torch", "transformers"} <= by_name
    assert all(set(standard[name]) <= set(own[name]) for name in standard.keys() - by_name)
    assert set(standard) <= set(own)
    assert own.get("no_such_module") is None


SCANNED = """
import json, sys
from contextlib import nullcontext
from r2gen.unused import with_models_scanned_once
with with_models_scanned_once() if sys.argv[1] == "once" else nullcontext():
    import transformers.models
    from transformers.utils import import_utils
table = import_utils.define_import_structure(transformers.models.__file__)
names = {", ".join(sorted(needs)): {file: sorted(names) for file, names in table[needs].items()} for needs in table}
scan = import_utils.create_import_structure_from_path
print(json.dumps([scan.cache_info().maxsize, transformers.LlamaForCausalLM.__name__, names], sort_keys=True))
"""


def test_the_models_of_transformers_are_the_same_if_they_are_scanned_once():
    def scanned(how: str) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCANNED, how]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    (once, *names), (twice, *expected) = scanned("once"), scanned("twice")
    assert (once, twice) == (None, 128)
    assert names == expected
    assert sum(map(len, names[1].values())) > 1000
