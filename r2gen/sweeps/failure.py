"""Why a job failed, from its exit status and its log; and how much less of a batch it may hold. Imports no torch."""

import re
from pathlib import Path

from r2gen.config.schema import TrainerConfig

TAIL = 2**16  # bytes of a log
NO_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|OUT_OF_MEMORY|memory ran out|not enough memory|allocate memory|MemoryError"
    r"|std::bad_alloc|ALLOC_FAILED|oom-kill|by (signal 9|SIGKILL)"
)
NOT_BY_TRAINING = "ran out while"  # a model was built, or reports were written: a smaller micro-batch changes neither
ERROR = re.compile(r"^(error: .*|[\w.]*(Error|Exception|Interrupt)\b.*)$", re.MULTILINE)


def tail_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL))
        return file.read().decode("utf-8", errors="replace")


def last_error(text: str, status: int) -> str:
    """The last line of a log that tells of an error; its last line where none does; the status of an empty one."""
    found = list(ERROR.finditer(text))
    if found:
        return found[-1][0].removeprefix("error: ").strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ended}; its last line: {lines[-1]}" if lines else f"{ended} without a word"


def is_out_of_memory(text: str, status: int) -> bool:
    """Whether a smaller micro-batch may help. Signal 9 is what the system sends where its memory is full."""
    return status == -9 or (NO_MEMORY.search(text) is not None and NOT_BY_TRAINING not in text)


def smaller_micro_batch(trainer: TrainerConfig) -> int | None:
    """The largest micro-batch of at most half that cuts the same batch evenly; None where it is one study already."""
    ranks, micro = trainer.devices, trainer.micro_batch_size
    return next((size for size in range(micro // 2, 0, -1) if trainer.batch_size % (size * ranks) == 0), None)
