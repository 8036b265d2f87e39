"""A command under another program's launcher (torchrun, accelerate, deepspeed, srun, mpirun).

R2Gen starts its ranks itself. One process of such a launcher works; several would each start the whole job.
"""

import os
import time
from collections.abc import MutableMapping

from r2gen.errors import FIXABLE, UserError

# What each launcher sets, likeliest first: the number of its processes, and of this one.
COUNTS = (
    ("torchrun, accelerate or deepspeed", "WORLD_SIZE", "RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("mpirun", "PMI_SIZE", "PMI_RANK"),  # MPICH and Intel MPI
)
OF_RANKS = frozenset(
    f"{prefix}{name}" for prefix in ("", "LOCAL_", "GROUP_", "ROLE_", "NODE_") for name in ("RANK", "WORLD_SIZE")
) | {"ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}
PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "OMPI_COMM_WORLD_")
AFTER_S = 2.0  # the first process reports why, and the others end so much later
FLAGS = ("--local_rank=", "--local-rank=")  # which deepspeed adds to the words


def alone(words: list[str], environment: MutableMapping[str, str] = os.environ) -> list[str]:
    """The words without those that a launcher added; its variables are removed, since ranks would take them as theirs.

    Raises UserError if the launcher has started several processes, and SystemExit in all of them but the first.
    """
    for launcher, count, number in COUNTS:
        processes = environment.get(count, "1")
        if not processes.isdecimal() or int(processes) == 1:
            continue
        if environment.get(number, "0") != "0":
            time.sleep(AFTER_S)  # a launcher ends the others at once
            raise SystemExit(FIXABLE)
        here = environment.get("LOCAL_WORLD_SIZE", processes)
        nodes = int(processes) // max(1, int(here)) if here.isdecimal() else 1
        machines = f" trainer.nodes={nodes}" if nodes > 1 else ""
        raise UserError(
            f"{launcher} has started this command {processes} times, and R2Gen starts its ranks itself: type "
            f"`python run.py trainer.devices={here}{machines} ...` without {launcher.partition(',')[0]}"
        )
    for name in list(environment):
        if name in OF_RANKS or name.startswith(PREFIXES):
            del environment[name]
    return [word for word in words if not word.startswith(FLAGS)]
