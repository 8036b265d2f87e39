"""What tests share: the sample data beside the repository."""

import os
from pathlib import Path

import pytest
from smallest_run import ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The sample data and golden files; tests that need them are skipped where they are not."""
    folder = Path(os.environ.get("R2GEN_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no sample data: {folder} does not exist (set R2GEN_SHARED)")
    return folder
