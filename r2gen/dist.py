"""The only place that talks to torch.distributed: which rank this is, and what the ranks tell each other."""

import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist

from r2gen.ranks import free_port

T = TypeVar("T")


def start(device: torch.device, *, timeout_s: int) -> None:
    """Join the ranks (NCCL on GPUs, gloo on the CPU). One rank without a launcher is its own world."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(free_port())
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch_dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))


def stop() -> None:
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def rank() -> int:
    return torch_dist.get_rank() if torch_dist.is_initialized() else 0


def world() -> int:
    return torch_dist.get_world_size() if torch_dist.is_initialized() else 1


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    return rank() == 0


def barrier() -> None:
    if world() > 1:
        torch_dist.barrier()


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all ranks, on every rank; the tensor itself is overwritten."""
    if world() > 1:
        torch_dist.all_reduce(value)
    return value


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on some rank, known to all."""
    return flag if world() == 1 else bool(sum_over_ranks(torch.tensor(int(flag), device=device)).item())


def gather(value: T) -> list[T]:
    """The values of all ranks, in rank order, on every rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    torch_dist.all_gather_object(values, value)
    return values


def first_of(value: list[T]) -> T:
    """What rank 0 holds in its one-element list, on every rank."""
    if world() > 1:
        torch_dist.broadcast_object_list(value, src=0)
    return value[0]
