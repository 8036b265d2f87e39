"""The only module that uses torch.distributed: which rank this is, and what the ranks exchange."""

import atexit
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

import torch
import torch.distributed as torch_dist
from torch.testing._internal.distributed import fake_pg  # noqa: F401  registers the backend ALONE

from r2gen.errors import FIXABLE, Code, UserError
from r2gen.ranks.exchange import FOLDER, FolderStore
from r2gen.ranks.heartbeat import PERIOD_S, Heartbeat, rank_names

T = TypeVar("T")
Work: TypeAlias = torch_dist.Work  # a collective that may not have ended; on a GPU, wait() lets the current stream wait
ALONE = "fake"  # torch's backend for one process: it communicates with nobody
LATER_S = 60  # torch's own time-outs, which name no rank, come so much later than ours
# DeepSpeed waits for the ranks at every checkpoint, on the GPU that each has chosen; torch 2.11 warns of that choice.
warnings.filterwarnings("ignore", message=r"barrier\(\): using the device under current context")
_heartbeats: list[Heartbeat] = []  # of this process: one, or none if there is a single rank


def leave(message: str) -> NoReturn:
    """Exit at once, without waiting for other threads. Prints the message unless it is empty."""
    try:
        if message:
            print(f"error: {message}", file=sys.stderr, flush=True)
    finally:
        os._exit(FIXABLE)


def start(device: torch.device, *, timeout_s: int, give_up: Callable[[str], None] = leave) -> None:
    """Join the other ranks (NCCL on GPUs, gloo on the CPU). Without a launcher this is the only rank.

    `give_up` is called from another thread when ranks have not responded for `timeout_s` seconds: with a message that
    names them on one rank, with "" on the others. Raises UserError if ranks do not start at all.
    """
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)
    own, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if count == 1:
        _start_alone(device)
        return
    folder = os.environ.get(FOLDER)
    holds = own == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = torch_dist.FileStore(f"{folder}/groups", count) if folder else _tcp_store(timeout_s, holds=holds)
    # A store of its own: a heartbeat must not wait until the groups have connected.
    beats = FolderStore(Path(folder)) if folder else _tcp_store(timeout_s, holds=False)
    _heartbeats.append(Heartbeat(beats, rank=own, world=count, timeout_s=timeout_s, give_up=give_up))
    _wait_for_all(beats, count, timeout_s)
    _heartbeats[0].start()
    store.set_timeout(timedelta(seconds=timeout_s + LATER_S))
    torch_dist.init_process_group(
        _backend(device),
        store=torch_dist.PrefixStore("group", store),
        rank=own,
        world_size=count,
        timeout=timedelta(seconds=timeout_s + LATER_S),
    )


def _start_alone(device: torch.device) -> None:
    """Start the group of a single rank, without a port, which gloo and NCCL open for one rank as well."""
    torch_dist.init_process_group(ALONE, store=torch_dist.HashStore(), rank=0, world_size=1)
    if not _scatters():
        torch_dist.destroy_process_group()
        # The file is removed with the process. Until then, a new group may need it.
        file = tempfile.NamedTemporaryFile(prefix="r2gen-rank-")  # noqa: SIM115
        atexit.register(file.close)
        store = torch_dist.FileStore(file.name, 1)
        torch_dist.init_process_group(_backend(device), store=store, rank=0, world_size=1)


def _scatters() -> bool:
    """Whether the backend ALONE returns the results of reduce_scatter: until torch 2.11 or later it left them unset."""
    value, outputs = torch.ones(2), [torch.zeros(2), torch.zeros(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.14 has another name for it, which 2.11 lacks
        torch_dist.reduce_scatter_tensor(outputs[0], value)
        torch_dist.reduce_scatter(outputs[1], [value])
    return all(bool((output == value).all()) for output in outputs)


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def _tcp_store(timeout_s: int, *, holds: bool) -> torch_dist.TCPStore:
    """The store of ranks that torchrun or a launcher of several machines started; rank 0 holds it."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        return torch_dist.TCPStore(
            address,
            port,
            is_master=holds,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        raise UserError(
            f"rank 0 could not be reached at {address}:{port} within trainer.timeout_s={timeout_s}: "
            f"{str(error).splitlines()[0]}",
            code=Code.RANK_LOST,
        ) from error


def _wait_for_all(store: FolderStore | torch_dist.TCPStore, count: int, timeout_s: int) -> None:
    # As in Heartbeat, the launcher has time to name a suspended rank first, so that there is one message.
    own, deadline = os.environ["RANK"], time.monotonic() + timeout_s + 2 * PERIOD_S
    try:
        store.set(f"started-{own}", "")
        while missing := [rank for rank in range(count) if not store.check([f"started-{rank}"])]:
            if time.monotonic() > deadline:
                raise UserError(
                    f"{rank_names(missing)} of {count} did not start within trainer.timeout_s={timeout_s}",
                    code=Code.RANK_LOST,
                )
            time.sleep(0.05)
    except RuntimeError as error:
        raise UserError(
            f"rank {own} of {count} waited for the other ranks to start, and rank 0 is gone", code=Code.RANK_LOST
        ) from error


def stop() -> None:
    for heartbeat in _heartbeats:
        heartbeat.end()
    _heartbeats.clear()
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def lost(error: Exception) -> str | None:
    """The message that names the lost rank, if the error comes from a broken connection. None for any other error.

    The message is "" if another process reports the loss. This takes a few seconds, until the heartbeat is missing.
    """
    connection = isinstance(error, torch_dist.DistError) or "/gloo/" in str(error)
    if not connection or not _heartbeats:
        return None
    if _heartbeats[0].gives_up:  # a rank that noticed earlier has left, which closed the connection
        _heartbeats[0].watching.join()  # ends this process, and names the missing rank
    deadline = time.monotonic() + 6 * PERIOD_S
    while not (gone := _heartbeats[0].silent(for_s=3 * PERIOD_S)) and time.monotonic() < deadline:
        time.sleep(PERIOD_S / 4)
    if gone and os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        return ""  # all ranks are on one machine: the lost rank, or the command that started it, reports why
    if rank() != min(set(range(world())) - set(gone)):
        return ""
    return f"the connection to {rank_names(gone) if gone else 'another rank'} was lost: {str(error).splitlines()[0]}"


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
        count_collective()
        torch_dist.barrier()


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all ranks, on every rank. Overwrites the tensor."""
    if world() > 1:
        count_collective()
        torch_dist.all_reduce(value)
    return value


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: torch.Tensor) -> torch.Tensor:
        return sum_over_ranks(value.clone())

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return sum_over_ranks(gradient.clone())


def sum_with_gradient(value: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all ranks, on every rank, whose gradient is that of the losses of all ranks."""
    summed: torch.Tensor = _Sum.apply(value)
    return summed


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank, on every rank."""
    return flag if world() == 1 else bool(sum_over_ranks(torch.tensor(int(flag), device=device)).item())


def gather(value: T) -> list[T]:
    """The values of all ranks in rank order, on every rank."""
    if world() == 1:
        return [value]
    count_collective()
    values: list[Any] = [None] * world()
    torch_dist.all_gather_object(values, value)
    return values


def gather_into(whole: torch.Tensor, own: torch.Tensor) -> Work:
    """Begin to collect the tensors `own` of all ranks, one after the other, in `whole`."""
    count_collective()
    start = getattr(torch_dist, "all_gather_single", None) or torch_dist.all_gather_into_tensor  # torch 2.14, 2.11
    work: Work | None = start(whole, own, async_op=True)
    assert work is not None
    return work


def first_of(value: list[T]) -> T:
    """The element of rank 0's one-element list, on every rank."""
    if world() > 1:
        count_collective()
        torch_dist.broadcast_object_list(value, src=0)
    return value[0]


def count_collective() -> None:
    """Tell the heartbeat that this rank enters a collective, here or in DeepSpeed."""
    for heartbeat in _heartbeats:
        heartbeat.count_collective()
