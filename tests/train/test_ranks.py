"""Two ranks have the same losses, weights and reports as one with every ZeRO stage, and resume bit for bit."""

from typing import Any

import pytest
import torch
from forked_run import run_script
from small_engine import largest_difference
from smallest_run import ROOT

Results = dict[str, dict[str, Any]]
CASES = ("zero0", "zero1", "zero2", "zero3", "zero3-bf16-lora", "zero0-findings", "zero3-lora-scst")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    """The output of two_ranks.py, by number of ranks and case."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_script(ROOT / "tests" / "support" / "two_ranks.py", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return {world: torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2)}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_losses_weights_and_reports_of_one_bit_for_bit(results: dict[int, Results], case: str):
    """Dropout and the average of the weights included. Only the norm is summed in another order."""
    single, double = results[1][case], results[2][case]
    assert single["losses"] == double["losses"]
    assert single["norms"] == pytest.approx(double["norms"], rel=1e-6)
    assert largest_difference(single["weights"], double["weights"]) == 0
    assert largest_difference(single["evaluated"], double["evaluated"]) == 0
    assert single["texts"] == double["texts"]
    assert [len(texts) for texts in single["texts"]] == [5, 1, 0] * 3
    assert len({text for _, text in single["texts"][0]}) > 1, "the reports of the studies differ"
    assert len(set(single["losses"])) == 4


@pytest.mark.parametrize("world", [1, 2])
def test_every_zero_stage_trains_alike(results: dict[int, Results], world: int):
    plain = results[world]["zero0"]
    for case in ("zero1", "zero2", "zero3"):
        assert results[world][case]["losses"] == pytest.approx(plain["losses"], rel=1e-6)
        assert largest_difference(results[world][case]["weights"], plain["weights"]) < 1e-6
        assert largest_difference(results[world][case]["evaluated"], plain["evaluated"]) < 1e-6
        assert results[world][case]["texts"] == plain["texts"]


def test_a_sharded_run_of_two_ranks_resumes_bit_for_bit_or_from_exactly_the_stored_weights(results: dict[int, Results]):
    for run in (results[2][case] for case in ("zero2", "zero3-bf16-lora", "zero3-lora-scst")):
        assert largest_difference(run["resumed"], run["weights"]) == 0
        assert largest_difference(run["resumed_evaluated"], run["evaluated"]) == 0
        assert largest_difference(run["weights_alone"], run["stored"]) == 0
        assert largest_difference(run["stored"], run["weights"]) > 0
        assert "64 rank(s) with ZeRO" in run["refused"]
        assert "trainer.resume=weights" in run["refused"]
