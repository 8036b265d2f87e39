"""A good and a poor run of the same studies."""

from pathlib import Path

import pytest
from scored_run import references, write_run

from r2gen.evaluate.baselines import shuffled_reports


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def good(folder: Path) -> Path:
    """A run in which two of three reports are the reference word for word."""
    of = references()
    wrong = shuffled_reports(of, seed=1)
    return write_run(folder / "good", {id: wrong[id] if index % 3 == 0 else of[id] for index, id in enumerate(of)})


@pytest.fixture(scope="module")
def poor(folder: Path) -> Path:
    return write_run(folder / "poor", shuffled_reports(references(), seed=2), projector="mlp")
