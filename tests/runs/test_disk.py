"""A message about space names what was reached: the disk, the quota, a limit of the shell, or a folder that is gone."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from composed import composed
from smallest_run import ROOT

from r2gen.runs import resources
from r2gen.runs.disk import out_of_disk


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"the disk is full \(.* MiB free, 5\.0 MiB needed\)\. Free some space"),
        (errno.EDQUOT, r"your disk quota is used up \(.* MiB free, 5\.0 MiB needed on the disk itself\)\. Remove some"),
        (errno.EFBIG, r"this shell allows files of .* \(`ulimit -f`\), and a checkpoint needs 5\.0 MiB\. Raise"),
    ],
)
def test_the_limit_is_named_with_what_is_needed(tmp_path: Path, number: int, message: str):
    error = out_of_disk(OSError(number, os.strerror(number)), tmp_path, need_bytes=5 * 2**20)
    assert error is not None
    assert str(error).startswith(f"run_dir={tmp_path}: ")
    assert error.code == "disk"
    with pytest.raises(type(error), match=message):
        raise error


def test_a_limit_of_the_shell_is_recognised_in_an_error_without_a_number(tmp_path: Path):
    """torch.save writes in C++ and gives no errno."""
    program = (
        "import sys, torch; from r2gen.runs.disk import out_of_disk\n"
        "try: torch.save(torch.zeros(10**6), 'file')\n"
        "except RuntimeError as error: print(out_of_disk(error, '.', need_bytes=4 * 10**6))"
    )
    limit = (100 * 1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    message = (
        "run_dir=.: this shell allows files of at most 0.1 MiB (`ulimit -f`), and a checkpoint needs 3.8 MiB. Raise"
    )
    assert done.stdout.startswith(message), done.stdout + done.stderr


def test_a_folder_that_was_moved_away_is_named(tmp_path: Path):
    config = composed(f"run_dir={tmp_path / 'run'}")
    error = resources.out_of_resources(FileNotFoundError(errno.ENOENT, "x"), config, resources.Phase.TRAINING)
    assert str(error).startswith(f"run_dir={tmp_path / 'run'} is gone: it was moved or removed while the command ran.")


def test_too_many_open_files_are_named_with_their_limit(tmp_path: Path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    config = composed(f"run_dir={tmp_path}", "trainer.workers=2")
    for error in (
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("Too many open files. Communication with the workers is no longer possible."),
    ):
        refusal = resources.out_of_resources(error, config, resources.Phase.TRAINING)
        expected = f"too many open files: this shell allows {limit} per process (`ulimit -n`). Raise the limit, as in"
        assert str(refusal).startswith(expected)
        assert str(refusal).endswith("or use fewer trainer.workers (now 2)")


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("-o ro", "which is read-only. Make it writable"),
        ("-o size=64k", "which is full (0.0 MiB free, 4.2 MiB needed). Enlarge"),
    ],
)
def test_shared_memory_that_is_unusable_is_named(tmp_path: Path, mount: str, why: str):
    program = (
        "import sys, torch; sys.path.insert(0, 'tests/support')\n"
        "from composed import composed; from r2gen.data.loader import batch_loader; from r2gen.runs import resources\n"
        f"config = composed('run_dir={tmp_path}', 'trainer.workers=1')\n"
        "class Images(torch.utils.data.Dataset):\n"
        "    def __getitem__(self, index): return torch.zeros(3, 224, 224)\n"
        "import r2gen.data.loader; r2gen.data.loader.collate = torch.stack\n"
        "try: next(iter(batch_loader(Images(), [[0, 1]] * 8, workers=1, pin=False)))\n"
        "except Exception as error: print(resources.out_of_resources(error, config, resources.Phase.TRAINING))"
    )
    namespace = ["unshare", "-rm", "bash", "-c", f'mount -t tmpfs {mount} tmpfs /dev/shm && exec "$@"', "bash"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this machine")
    done = subprocess.run(
        [*namespace, sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    start = f"trainer.workers=1: data workers pass batches through /dev/shm, {why}"
    assert done.stdout.startswith(start), done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("or use trainer.workers=0")
    assert done.stderr == ""
