"""Fixtures and settings of all tests."""

import os
import random
from pathlib import Path

import hypothesis
import pytest
from golden_checkpoints import SHARED

# The clock is no judge: the machine may be busy.
hypothesis.settings.register_profile(
    "r2gen", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("r2gen")


os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests are small, and run side by side


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes: one per core up to four for all tests, and this process alone for chosen files."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        config.option.dist = "no"
        return 0
    return min(4, len(os.sched_getaffinity(0)))


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
    if not SHARED.is_dir():
        pytest.skip(f"no sample data: {SHARED} does not exist (set R2GEN_SHARED)")
    return SHARED
