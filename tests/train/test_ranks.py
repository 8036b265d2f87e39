"""Two ranks equal one, under every ZeRO stage: the same losses, weights and reports, and a run that goes on."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from smallest_run import ROOT

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Found]:
    """By number of ranks and case, what two_ranks.py left."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "two_ranks.py"), str(folder)],
        env=environment,
        timeout=280,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return {world: torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2)}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("case", ["zero0", "zero1", "zero2", "zero3", "zero3-bf16-lora"])
def test_two_ranks_take_the_steps_and_write_the_reports_of_one_bit_for_bit(found: dict[int, Found], case: str):
    """With the same micro-batches, dropout included; the norm of pieces is summed in another order."""
    one, two = found[1][case], found[2][case]
    assert one["losses"] == two["losses"]
    assert one["norms"] == pytest.approx(two["norms"], rel=1e-6)
    assert distance(one["weights"], two["weights"]) == 0
    assert one["texts"] == two["texts"]
    assert [len(texts) for texts in one["texts"]] == [5, 1, 0] * 3
    assert len({text for _, text in one["texts"][0]}) > 1, "reports that differ by study"
    assert len(set(one["losses"])) == 4


@pytest.mark.parametrize("world", [1, 2])
def test_every_stage_trains_as_none(found: dict[int, Found], world: int):
    plain = found[world]["zero0"]
    for case in ("zero1", "zero2", "zero3"):
        assert found[world][case]["losses"] == pytest.approx(plain["losses"], rel=1e-6)
        assert distance(found[world][case]["weights"], plain["weights"]) < 1e-6
        assert found[world][case]["texts"] == plain["texts"]


def test_a_sharded_run_of_two_ranks_goes_on_bit_for_bit_and_its_weights_alone_are_exact(found: dict[int, Found]):
    for run in (found[2][case] for case in ("zero2", "zero3-bf16-lora")):
        assert distance(run["went_on"], run["weights"]) == 0
        assert distance(run["weights_alone"], run["stored"]) == 0
        assert distance(run["stored"], run["weights"]) > 0
        assert "64 rank(s) under ZeRO" in run["refused"]
        assert "trainer.resume=weights" in run["refused"]
