"""Break runs on purpose for test_kills.py:  python broken_runs.py FOLDER [DISK]

Prints a line of JSON per command: its name, exit status and output. With DISK, a folder on which a small disk is
mounted, a run also fills that disk; it needs user namespaces.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from killed_run import SMALL, Event, Moment, run_until
from smallest_run import command

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def show(name: str, status: int, output: Path) -> None:
    print(json.dumps({"name": name, "status": status, "output": output.read_text()}), flush=True)
    output.unlink()


def break_run(folder: Path) -> None:
    """Kill the rank, run the same command again, and again with metrics.json cut in the middle."""
    folder.mkdir()
    overrides = [*SMALL, "trainer.max_steps=1"]
    status, _ = run_until(overrides, folder, Moment(signal.SIGKILL, Event("rank", 12, "start"), 0.0, "rank"))
    show("killed", status, folder / "output")
    show("again", run_until(overrides, folder)[0], folder / "output")
    scores = folder / "run" / "metrics.json"
    scores.rename(scores.with_name("whole.json"))
    scores.write_text('{"splits": {"te')
    show("torn", run_until(overrides, folder)[0], folder / "output")


def fill_disk(disk: Path) -> None:
    """Fill the disk while a run writes checkpoints on it; make room, and run the same command again."""
    mount_small_disk(disk)
    overrides = command("run_dir=run", "trainer.epochs=5", "evaluate.every=5", "trainer.save_every_steps=1")
    output = disk.parent / "output"
    with output.open("w") as out:
        process = subprocess.Popen(overrides, cwd=disk, stdout=out, stderr=out)
    while not (disk / "run" / "checkpoints" / "last").exists() and process.poll() is None:
        time.sleep(0.02)
    with contextlib.suppress(OSError):  # no space left
        (disk / "filler").write_bytes(bytes(16 * 2**20))
    show("full", process.wait(), output)
    checkpoints = sorted(path.name for path in (disk / "run" / "checkpoints").iterdir())
    (disk / "filler").unlink()
    with output.open("w") as out:
        out.write(f"checkpoints: {' '.join(checkpoints)}\n")
        out.flush()
        status = subprocess.run(overrides, cwd=disk, stdout=out, stderr=out).returncode
    show("room again", status, output)


def mount_small_disk(folder: Path) -> None:
    """Mount a disk of 16 MiB that this process and its children see, as a user without privileges may."""
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    for name, number in ids.items():
        Path("/proc/self", name).write_text(f"0 {number} 1")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)


if __name__ == "__main__":
    break_run(Path(sys.argv[1]))
    if sys.argv[2:]:
        fill_disk(Path(sys.argv[2]))
