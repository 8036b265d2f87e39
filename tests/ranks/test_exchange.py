"""One rank opens no port, ranks of one machine listen on loopback only, and nothing uses a name server."""

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as torch_dist
from forked_run import run_script, start
from smallest_run import ROOT, SMALLEST, command

from r2gen.ranks.exchange import FolderStore, loopback

LISTENS = "0A"
ONE_STEP = ("trainer.max_steps=1", "run_dir=run")


def descendants(pid: int) -> set[int]:
    """The process and all that it started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(") ")[2].split()[1])
        except OSError:
            continue
    tree, more = {pid}, {pid}
    while more := {child for child, parent in parents.items() if parent in more} - tree:
        tree |= more
    return tree


def listening_addresses(pids: set[int]) -> set[str]:
    """The local addresses on which the processes listen."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):  # the process has ended
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # the file is closed
                    sockets.add(str(link.readlink()))
    addresses = set()
    for family, file in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path("/proc/net", file).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
                packed = bytes.fromhex(fields[1].partition(":")[0])
                words = [packed[first : first + 4][::-1] for first in range(0, len(packed), 4)]
                addresses.add(socket.inet_ntop(family, b"".join(words)))
    return addresses


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize(("devices", "expected"), [(1, set()), (2, {"127.0.0.1"})])
def test_a_training_listens_on_no_address_that_others_reach(tmp_path: Path, devices: int, expected: set[str]):
    process, addresses = start(*ONE_STEP, f"trainer.devices={devices}", cwd=tmp_path), set[str]()
    while process.poll() is None:
        addresses |= listening_addresses(descendants(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0, process.completed()
    # Before torch 2.14 one rank may need gloo (dist.py).
    old = devices == 1 and torch.torch_version.TorchVersion(torch.__version__) < (2, 14)
    assert addresses == expected or (old and addresses <= {"127.0.0.1"})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("devices", [1, 2])
def test_nothing_uses_a_name_server(tmp_path: Path, devices: int):
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o", str(tmp_path / "trace")]
    words = command(*SMALLEST, *ONE_STEP, f"trainer.devices={devices}", smallest=False)
    done = subprocess.run([*trace, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    connections = re.findall(r"sin6?_port=htons\((\d+)\).*?\"(.*?)\"", (tmp_path / "trace").read_text())
    assert not [port for port, _ in connections if port == "53"]
    assert {address for _, address in connections} <= {"127.0.0.1"}
    assert bool(connections) == (devices > 1)


@pytest.mark.slow
def test_one_rank_needs_no_network_at_all(tmp_path: Path):
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this machine")
    done = subprocess.run([*alone, *command(*ONE_STEP)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_backend_of_one_rank_computes_what_any_backend_does():
    """torch calls it `fake`, and documents no result of it."""
    assert run_script(Path(__file__)).stdout == "done\n"


def collectives_of_one_rank() -> None:
    from r2gen.ranks import dist

    dist.start(torch.device("cpu"), timeout_s=60)
    value = torch.arange(6.0)
    for reduce in (torch_dist.all_reduce, lambda tensor: torch_dist.reduce(tensor, 0), dist.sum_over_ranks):
        reduce(value)
    torch_dist.broadcast(value, 0)
    torch_dist.all_reduce(value, group=torch_dist.new_group([0]), async_op=True).wait()
    assert value.tolist() == list(range(6))
    for gather in (torch_dist.all_gather_into_tensor, torch_dist.reduce_scatter_tensor):
        gather(result := torch.zeros(6), value)
        assert result.tolist() == value.tolist(), gather
    torch_dist.all_gather([result := torch.zeros(6)], value)
    assert result.tolist() == value.tolist()
    torch_dist.reduce_scatter(result := torch.zeros(6), [value])
    assert result.tolist() == value.tolist()
    torch_dist.all_gather_object(objects := [None], {"a": 1})
    assert objects == [{"a": 1}]
    torch_dist.barrier()
    dist.stop()
    print("done")


@pytest.mark.slow
def test_a_torch_whose_backend_of_one_rank_does_not_scatter_gets_another():
    code = (
        "import torch, torch.distributed as d; from r2gen.ranks import dist; dist._scatters = lambda: False\n"
        "dist.start(torch.device('cpu'), timeout_s=60); d.reduce_scatter(o := torch.zeros(2), [torch.ones(2)])\n"
        "print(d.get_backend(), o.tolist()); dist.stop()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "gloo [1.0, 1.0]\n", done.stderr


def test_a_store_returns_the_last_value_of_each_key_also_when_its_folder_is_cleared(tmp_path: Path):
    first, second = FolderStore(tmp_path), FolderStore(tmp_path)
    first.set("a", "12345 6")
    second.set("b", "1")
    assert first.check(["a", "b"])
    assert not first.check(["a", "c"])
    assert first.multi_get(["a", "b"])[0].split() == [b"12345", b"6"]
    assert second.multi_get(["a"])[0].split() == [b"12345", b"6"]
    shutil.rmtree(tmp_path)
    first.set("a", "7")
    assert second.multi_get(["a"])[0].split() == [b"7"]


def test_the_loopback_interface_has_a_name():
    assert loopback() in [name for _, name in socket.if_nameindex()]


if __name__ == "__main__":
    collectives_of_one_rank()
