"""Two ranks have the same losses, weights and reports as one with every ZeRO stage, and resume bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from forked_run import run_script
from small_engine import largest_difference
from smallest_run import ROOT

Results = dict[str, dict[str, Any]]
CASES = (
    "zero0", "zero1", "zero2", "zero3", "zero3-bf16-lora", "zero3-frozen", "zero3-context", "zero0-findings",
    "zero0-scst",
)  # fmt: skip
SCST = "zero3-lora-scst"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    """The output of two_ranks.py, by number of ranks and case."""
    return trained(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def scst_results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Results]:
    return trained(tmp_path_factory.mktemp("ranks"), "scst")


def trained(folder: Path, *words: str) -> dict[int, Results]:
    done = run_script(ROOT / "tests" / "support" / "two_ranks.py", str(folder), *words)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return {world: torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2)}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_losses_weights_and_reports_of_one_bit_for_bit(results: dict[int, Results], case: str):
    """Dropout and the average of the weights included. Only the norm is summed in another order."""
    check_alike(results[1][case], results[2][case])


@pytest.mark.slow
def test_two_ranks_train_and_resume_self_critically_as_one(scst_results: dict[int, Results]):
    check_alike(scst_results[1][SCST], scst_results[2][SCST])
    check_resumed(scst_results[2][SCST])


def check_alike(single: dict[str, Any], double: dict[str, Any]) -> None:
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
    for case in ("zero2", "zero3-bf16-lora", "zero3-frozen", "zero3-context"):
        check_resumed(results[2][case])


def check_resumed(run: dict[str, Any]) -> None:
    assert largest_difference(run["resumed"], run["weights"]) == 0
    assert largest_difference(run["resumed_evaluated"], run["evaluated"]) == 0
    assert largest_difference(run["weights_alone"], run["stored"]) == 0
    assert largest_difference(run["stored"], run["weights"]) > 0
    assert "64 rank(s) with ZeRO" in run["refused"]
    assert "trainer.resume=weights" in run["refused"]
