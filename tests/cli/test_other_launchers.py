"""run.py under torchrun, accelerate, deepspeed or srun: one process works, several are refused with what to type."""

import pytest

from r2gen.cli import other_launchers
from r2gen.cli.other_launchers import alone
from r2gen.errors import UserError


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "TORCHELASTIC_RUN_ID": "x"},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {},
    ],
)
def test_one_process_works_and_its_variables_do_not_reach_the_ranks(variables: dict[str, str]):
    environment = {"HOME": "/home/me", **variables}
    assert alone(["--local_rank=0", "lm=tiny"], environment) == ["lm=tiny"]
    assert {name for name in environment if not name.startswith("SLURM_")} == {"HOME"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "python run.py trainer.devices=2 ..."),
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "0"}, "trainer.devices=8 trainer.nodes=2 ..."),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "srun has started this command 4 times"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "without mpirun"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "without mpirun"),
    ],
)
def test_several_processes_are_refused_with_what_to_type(variables: dict[str, str], message: str):
    with pytest.raises(UserError) as refused:
        alone([], variables)
    assert message in str(refused.value)


def test_only_the_first_process_reports_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(other_launchers, "AFTER_S", 0.0)
    with pytest.raises(SystemExit):
        alone([], {"WORLD_SIZE": "2", "RANK": "1"})
