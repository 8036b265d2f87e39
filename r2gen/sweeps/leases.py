"""GPU leases: each GPU has a lock file, which all sweeps of a user on this machine share.

A lease is a lock (flock) on an open file that the job's process inherits. It ends with that process and
needs no cleaning up.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from r2gen.errors import UserError
from r2gen.runs.files import open_lock, take_lock


@dataclass(frozen=True)
class Gpu:
    """`name` is an entry of CUDA_VISIBLE_DEVICES. `uuid` does not depend on that variable."""

    name: str
    uuid: str


class Lease:
    """Exclusive use of some GPUs while one of `files` is open in any process."""

    def __init__(self, gpus: Sequence[Gpu], files: ExitStack, numbers: Sequence[int]) -> None:
        self.names = [gpu.name for gpu in gpus]
        self.numbers = tuple(numbers)  # file descriptors, for the job's process to inherit
        self._files = files

    def leave_to_job(self) -> None:
        """Close the files in this process, once the job's process has inherited them."""
        self._files.close()


class Leases:
    """The GPUs that this process may use."""

    def __init__(self, gpus: Sequence[Gpu], folder: Path) -> None:
        self.gpus, self.folder = gpus, folder

    def take(self, count: int) -> Lease | None:
        """Lease `count` GPUs; None if fewer are free now."""
        with ExitStack() as files:
            taken: list[Gpu] = []
            numbers: list[int] = []
            for gpu in self.gpus:
                if len(taken) == count:
                    break
                file = open_lock(self.folder / f"{gpu.uuid}.lock")
                if not take_lock(file):
                    file.close()
                    continue
                files.enter_context(file)
                taken.append(gpu)
                numbers.append(file.fileno())
            return Lease(taken, files.pop_all(), numbers) if len(taken) == count else None


def machine_leases() -> Leases:
    """Leases of the GPUs that CUDA_VISIBLE_DEVICES allows, with this user's lock files."""
    return Leases(visible_gpus(), lock_folder())


def lock_folder() -> Path:
    """The folder of lock files, one per user and machine. Other users can neither write to it nor replace it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        folder = Path(runtime) / "r2gen-gpus"
    else:
        folder = Path(tempfile.gettempdir()) / f"r2gen-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise UserError(
            f"{folder}, where GPUs are leased, belongs to another user, or others can write to it: remove it, or "
            "set XDG_RUNTIME_DIR"
        )
    return folder


def visible_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES allows; none without nvidia-smi."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return visible_among(listed, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible_among(listed: str, visible: str | None) -> list[Gpu]:
    """The GPUs that CUDA uses with CUDA_VISIBLE_DEVICES=`visible`. `listed` has a line `index, uuid` for each GPU."""
    pairs = [[part.strip() for part in line.split(",")] for line in listed.splitlines() if line.strip()]
    if visible is None:
        return [Gpu(index, uuid) for index, uuid in pairs]
    gpus = []
    for name in filter(None, (word.strip() for word in visible.split(","))):
        matches = [uuid for index, uuid in pairs if name == index or uuid.startswith(name)]
        if matches:
            gpus.append(Gpu(name, matches[0]))
        elif name.startswith("MIG-"):
            gpus.append(Gpu(name, name.replace("/", "_")))
        else:
            break  # CUDA ignores everything after an unknown name
    return gpus
