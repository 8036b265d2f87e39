"""BatchNorm statistics that move are those of all ranks, in the checkpoints of every ZeRO stage."""

from typing import Any

import pytest
import torch
from forked_run import run_script
from small_engine import equal, largest_difference
from smallest_run import ROOT

pytestmark = pytest.mark.slow
Results = dict[str, dict[str, Any]]
FP32 = ["zero0-batch-norm", "zero2-batch-norm", "zero3-batch-norm"]
ALL = [*FP32, "zero3-bf16-batch-norm"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    """The output of two_ranks.py, by number of ranks and case. Layers are computed again in the backward pass."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_script(ROOT / "tests" / "support" / "two_ranks.py", str(folder), "batch-norm")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return {world: torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2)}


@pytest.mark.parametrize("case", FP32)
def test_two_ranks_are_one_within_rounding(results: dict[int, Results], case: str):
    single, double = results[1][case], results[2][case]
    assert single["losses"] == pytest.approx(double["losses"], rel=1e-6)
    assert single["norms"] == pytest.approx(double["norms"], rel=1e-4)
    differences = [(single["weights"][name] - tensor).abs() for name, tensor in double["weights"].items()]
    far = sum(int((difference > 1e-6).sum()) for difference in differences)
    # AdamW makes a step of a gradient that only rounding keeps from being 0, such as that of a bias before a BatchNorm.
    assert far < 0.01 * sum(difference.numel() for difference in differences)
    assert largest_difference(single["weights"], double["weights"]) < 2e-3
    assert len(set(single["losses"])) == 4


@pytest.mark.parametrize("case", ALL)
def test_two_ranks_resume_bit_for_bit_with_their_statistics(results: dict[int, Results], case: str):
    run = results[2][case]
    assert equal(run["resumed"], run["weights"])
    assert equal(run["resumed_evaluated"], run["evaluated"])
    statistics = {name: tensor for name, tensor in run["weights"].items() if ".running_" in name}
    assert {tensor.dtype for tensor in statistics.values()} == {torch.float32}
    counts = [tensor.item() for name, tensor in run["weights"].items() if name.endswith("num_batches_tracked")]
    assert set(counts) == {4}, "one update for each step"
