"""Ranks on several machines: the one command, of DeepSpeed's launcher or SLURM, that starts them. Imports no torch."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from r2gen.config.schema import TrainerConfig
from r2gen.errors import UserError

NETWORK = ("NCCL_", "GLOO_", "FI_", "UCX_")  # of the environment, what ranks on other machines need too
# SLURM says a task its number; the ranks of a launcher are told theirs as RANK and LOCAL_RANK.
AS_RANK = 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID; exec "$@"'


def check(trainer: TrainerConfig) -> None:
    """Refuse trainer.nodes that cannot be had here. Raises UserError naming the option or the line of the hostfile."""
    nodes, hostfile = trainer.nodes, trainer.hostfile
    if nodes == 1:
        return
    if hostfile is None:
        if "SLURM_JOB_ID" not in os.environ:
            raise UserError(
                f"trainer.nodes={nodes}: give trainer.hostfile=FILE, a line `HOST slots=GPUS` for each "
                "machine, or start the command in a job of SLURM"
            )
        if int(os.environ.get("SLURM_NNODES", "1")) < nodes:
            raise UserError(f"trainer.nodes={nodes}: this job of SLURM has {os.environ.get('SLURM_NNODES', 1)} node(s)")
        return
    if len(hosts(Path(hostfile), slots=trainer.devices)) < nodes:
        raise UserError(f"trainer.hostfile={hostfile} names fewer machines than trainer.nodes={nodes}")
    if shutil.which("pdsh") is None:
        raise UserError("trainer.hostfile: DeepSpeed's launcher starts the ranks by pdsh, which is not installed here")


def hosts(file: Path, *, slots: int) -> list[str]:
    """The machines of a hostfile; each must have the slots for the ranks of one machine."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"trainer.hostfile={file} cannot be read: {error}") from error
    names = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = re.fullmatch(r"(\S+)\s+slots=(\d+)", text)
        if found is None:
            raise UserError(f"{file}, line {number}: write HOST slots=GPUS, not {text!r}")
        if int(found[2]) < slots:
            raise UserError(
                f"{file}, line {number}: {found[1]} has {found[2]} slots, fewer than trainer.devices={slots}"
            )
        names.append(found[1])
    return names


def launcher_command(trainer: TrainerConfig, worker: list[str], *, settings: Mapping[str, str], port: int) -> list[str]:
    """What starts `worker` as every rank on every machine, with `settings` in its environment."""
    nodes, devices = trainer.nodes, trainer.devices
    network = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    run = ["env", *(f"{name}={value}" for name, value in {**network, **settings}.items()), *worker]
    if trainer.hostfile is None:
        meeting = [f"MASTER_ADDR={socket.gethostname()}", f"MASTER_PORT={port}", f"WORLD_SIZE={nodes * devices}"]
        return [
            "srun",
            f"--nodes={nodes}",
            f"--ntasks={nodes * devices}",
            f"--ntasks-per-node={devices}",
            "--kill-on-bad-exit=1",
            "sh",
            "-c",
            AS_RANK,
            "sh",
            run[0],
            *meeting,
            *run[1:],
        ]
    first = hosts(Path(trainer.hostfile), slots=devices)[0]
    return [
        sys.executable,
        "-m",
        "deepspeed.launcher.runner",
        f"--hostfile={trainer.hostfile}",
        f"--num_nodes={nodes}",
        f"--num_gpus={devices}",
        f"--master_addr={first}",
        f"--master_port={port}",
        "--force_multi",
        "--no_ssh_check",
        "--no_python",
        "--no_local_rank",
        *run,
    ]
