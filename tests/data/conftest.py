"""Fixtures for the tests of published layouts."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_tree(tree: Path, tmp_path: Path) -> Path:
    """A copy of the `tree` of a test's module, which the test may change."""
    return Path(shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("annotation*")))
