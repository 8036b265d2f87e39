"""Fixtures and settings of all tests."""

import os
import random
from pathlib import Path

import hypothesis
import pytest
from smallest_run import ROOT

# The clock is no judge: the machine may be busy.
hypothesis.settings.register_profile(
    "r2gen", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("r2gen")


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads its seed, and before xdist starts its workers
def pytest_configure(config: pytest.Config) -> None:
    """Draw the random seed of all tests, or take it from $R2GEN_SEED."""
    os.environ.setdefault("R2GEN_SEED", str(random.randrange(2**32)))
    config.option.hypothesis_seed = os.environ["R2GEN_SEED"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"random seed: R2GEN_SEED={os.environ['R2GEN_SEED']}")


@pytest.fixture
def seed() -> int:
    """The random seed of this run of the tests."""
    return int(os.environ["R2GEN_SEED"])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of sample data and golden files; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("R2GEN_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no sample data: {folder} does not exist (set R2GEN_SHARED)")
    return folder
