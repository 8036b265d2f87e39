"""Run a script of this folder in Triton's interpreter, which must be switched on before kernels are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def comparisons_that_are_equal(script: str, *arguments: str) -> int:
    """How many lines with `equal` the script prints; the test is skipped where the interpreter does not run."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(script), *arguments],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("the interpreter of Triton 3.6 does not run with NumPy 2.5")
    assert done.returncode == 0, done.stderr
    return done.stdout.count("equal")
