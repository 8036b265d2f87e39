"""benchmarks/context.py runs on the CPU with few steps; no test judges its figures."""

from pathlib import Path

import pytest
from forked_run import run_script
from smallest_run import ROOT, SMALLEST


@pytest.mark.slow
def test_every_context_is_scored_with_and_without_its_inputs(tmp_path: Path):
    words = [word for word in SMALLEST if not word.startswith(("metrics=", "trainer.epochs"))]
    done = run_script(
        ROOT / "benchmarks" / "context.py",
        *("--out", str(tmp_path), "--seeds", "2", "--steps", "3", "--contexts", "none", "all", "--device", "cpu", "--"),
        *words,
        "data.test_studies=24",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 seeds, 3 steps, test split of 24 studies" in done.stdout
    assert "misleading indications followed" in done.stdout
    assert "over none" in done.stdout
    for system in ("no_prior", "other_prior", "no_indication", "other_indication", "no_lateral", "other_lateral"):
        assert f"context=all with the same weights, {system}" in done.stdout
    assert "context=none with the same weights, no_lateral" in done.stdout
