"""Ranks on several machines: the one command, of DeepSpeed's launcher or SLURM, that starts them all."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from r2gen.config.trainer import TrainerConfig
from r2gen.errors import Code, UserError

NETWORK = ("NCCL_", "GLOO_", "FI_", "UCX_")  # environment variables that ranks on other machines need too
# A SLURM task gets its number as SLURM_PROCID, a rank as RANK and LOCAL_RANK.
AS_RANK = 'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID; exec "$@"'


def check(trainer: TrainerConfig) -> None:
    """Raise UserError, naming the option or the hostfile's line, if there are not trainer.nodes machines here."""
    nodes, hostfile = trainer.nodes, trainer.hostfile
    if nodes == 1:
        return
    if hostfile is None:
        if "SLURM_JOB_ID" not in os.environ:
            raise UserError(
                f"trainer.nodes={nodes}: give trainer.hostfile=FILE, with a line `HOST slots=GPUS` for each machine, "
                "or start the command in a SLURM job"
            )
        if int(os.environ.get("SLURM_NNODES", "1")) < nodes:
            raise UserError(f"trainer.nodes={nodes}: this SLURM job has {os.environ.get('SLURM_NNODES', 1)} node(s)")
        return
    if len(hosts(Path(hostfile), slots=trainer.devices)) < nodes:
        raise UserError(f"trainer.hostfile={hostfile} names fewer machines than trainer.nodes={nodes}")
    if shutil.which("pdsh") is None:
        raise UserError(
            "trainer.hostfile: DeepSpeed's launcher starts the ranks with pdsh, which is not installed here",
            code=Code.PACKAGE_MISSING,
        )


def hosts(file: Path, *, slots: int) -> list[str]:
    """The machines of a hostfile. Each must have `slots`, for the ranks of one machine."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"trainer.hostfile={file} cannot be read: {error}") from error
    names = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        host = re.fullmatch(r"(\S+)\s+slots=(\d+)", text)
        if host is None:
            raise UserError(f"{file}, line {number}: write HOST slots=GPUS, not {text!r}")
        if int(host[2]) < slots:
            raise UserError(f"{file}, line {number}: {host[1]} has {host[2]} slots, fewer than trainer.devices={slots}")
        names.append(host[1])
    return names


def launcher_command(trainer: TrainerConfig, worker: list[str], *, settings: Mapping[str, str], port: int) -> list[str]:
    """The command that starts `worker` as every rank on every machine, with `settings` in its environment."""
    network = {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    environment = [f"{name}={value}" for name, value in {**network, **settings}.items()]
    if trainer.hostfile is None:
        return _srun(trainer, worker, environment, port)
    return _deepspeed(trainer, worker, environment, port)


def _srun(trainer: TrainerConfig, worker: list[str], environment: list[str], port: int) -> list[str]:
    nodes, devices = trainer.nodes, trainer.devices
    world = nodes * devices
    rendezvous = [f"MASTER_ADDR={socket.gethostname()}", f"MASTER_PORT={port}", f"WORLD_SIZE={world}"]
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={world}",
        f"--ntasks-per-node={devices}",
        "--kill-on-bad-exit=1",
        *("sh", "-c", AS_RANK, "sh"),
        *("env", *rendezvous, *environment, *worker),
    ]


def _deepspeed(trainer: TrainerConfig, worker: list[str], environment: list[str], port: int) -> list[str]:
    assert trainer.hostfile is not None
    first = hosts(Path(trainer.hostfile), slots=trainer.devices)[0]
    return [
        *(sys.executable, "-m", "deepspeed.launcher.runner"),
        f"--hostfile={trainer.hostfile}",
        f"--num_nodes={trainer.nodes}",
        f"--num_gpus={trainer.devices}",
        f"--master_addr={first}",
        f"--master_port={port}",
        "--force_multi",
        "--no_ssh_check",
        "--no_python",
        "--no_local_rank",
        *("env", *environment, *worker),
    ]
