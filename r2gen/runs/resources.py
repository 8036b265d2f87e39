"""What ran out, disk or memory, as one message with the fix; None for any other error. Imports no torch."""

import errno
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from r2gen.config.schema import Config

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What writers outside Python say of these: safetensors and torch.save have errors of their own.
NO_ROOM_SAID = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "PytorchStreamWriter failed",
    "inline_container.cc",
)
NO_MEMORY_SAID = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
DATA_PROCESS_SAID = ("DataLoader worker", "unable to allocate shared memory", "Bus error")
MIB = 2**20


def ran_out(error: BaseException, config: Config) -> str | None:
    """The message for an error of a rank that runs this configuration."""
    return disk_ran_out(error, config.folder) or memory_ran_out(error, config)


def disk_ran_out(error: BaseException, folder: Path | str, *, need_bytes: int | None = None) -> str | None:
    """`need_bytes` is what was being written, where that is known."""
    if any(isinstance(one, OSError) and one.errno == errno.EROFS for one in _chain(error)):
        return (
            f"run_dir={folder}: its file system has become read-only: make it writable, then the same command goes on"
        )
    if not any(
        (isinstance(one, OSError) and one.errno in NO_ROOM) or _says(one, NO_ROOM_SAID) for one in _chain(error)
    ):
        return None
    needed = f", {need_bytes / MIB:,.1f} MiB are needed" if need_bytes is not None else ""
    return (
        f"run_dir={folder}: the disk is full ({shutil.disk_usage(folder).free / MIB:,.1f} MiB free{needed}): make "
        "room (or raise the quota), then the same command goes on; earlier checkpoints are intact"
    )


def memory_ran_out(error: BaseException, config: Config) -> str | None:
    """Says which batch to halve, by the part of the code that asked for the memory."""
    if any(_says(one, DATA_PROCESS_SAID) for one in _chain(error)):
        return (
            f"a data process was ended, most often because memory ran out: lower trainer.workers (now "
            f"{config.trainer.workers}) or trainer.film_cache_mib (now {config.trainer.film_cache_mib} "
            "a process); the same command with it goes on from the last checkpoint"
        )
    known = [
        one
        for one in _chain(error)
        if isinstance(one, MemoryError)
        or type(one).__name__ == "OutOfMemoryError"
        or (isinstance(one, RuntimeError) and _says(one, NO_MEMORY_SAID))
    ]
    if not known:
        return None
    where = "the GPU's memory" if any(word in str(known[0]) for word in ("CUDA", "CUBLAS", "GPU")) else "memory"
    files = {frame.filename.replace("\\", "/") for one in known for frame in traceback.extract_tb(one.__traceback__)}
    return f"{where} ran out {_fix(files, config)}"


def _fix(files: set[str], config: Config) -> str:
    go_on = "the same command with it goes on from the last checkpoint"
    if any("/r2gen/evaluate/" in file for file in files):
        option, now, doing = "evaluate.batch_size", config.evaluate.batch_size, "while reports were written"
        same = "scores may move by rounding only"
    elif any(file.endswith(("/r2gen/train/fit.py", "/r2gen/train/engine.py")) for file in files):
        option, now, doing = "trainer.micro_batch_size", config.trainer.micro_batch_size, "in a training step"
        same = f"a step still sees trainer.batch_size={config.trainer.batch_size} studies"
    else:
        return (
            "while the model was built: take a quantised language model (quant=nf4), a smaller one, or a machine "
            "with more"
        )
    if now == 1:
        return (
            f"{doing} at {option}=1: use lm.gradient_checkpointing=true, quant=nf4, a smaller language model, or "
            "a machine with more"
        )
    half = max(part for part in range(1, now // 2 + 1) if now % part == 0)
    return f"{doing}: type {option}={half} (now {now}; {same}); {go_on}"


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
