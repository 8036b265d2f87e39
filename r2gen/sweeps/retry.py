"""What follows from a job's failure: whether a smaller micro-batch may help, and which line of its log to show."""

import re
import signal
from pathlib import Path

from r2gen.config.trainer import TrainerConfig
from r2gen.errors import Code
from r2gen.runs import files
from r2gen.runs.failure import Failure

TAIL_BYTES = 2**16  # of a log
ERROR_LINE = re.compile(r"^(error: .*|[\w.]*(Error|Exception|Interrupt)\b.*)$", re.MULTILINE)
# A smaller micro-batch helps neither while the model is built nor while reports are generated.
HELPED_BY_SMALLER_BATCH = (Code.MEMORY_TRAINING, Code.MEMORY_WORKERS, Code.RANK_KILLED)
BAD_ALLOC = "std::bad_alloc"  # all that a C++ library leaves of a failed allocation when it aborts the process


def log_tail(log: Path) -> str:
    return files.read_tail(log, TAIL_BYTES).decode("utf-8", errors="replace")


def last_error(text: str, status: int) -> str:
    """The last error line of a log; without one its last line; for an empty log the exit status."""
    errors = list(ERROR_LINE.finditer(text))
    if errors:
        return errors[-1][0].removeprefix("error: ").strip().removesuffix(".")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{ended}; last line: {lines[-1]}" if lines else f"{ended}; its log is empty"


def may_fit_smaller(failure: Failure | None, status: int, text: str) -> bool:
    """Whether the job may succeed with a smaller micro-batch. A process killed by signal 9 reports no failure."""
    if failure is None:
        return status == -signal.SIGKILL
    return failure.code in HELPED_BY_SMALLER_BATCH or (failure.code is Code.RANK_CRASHED and BAD_ALLOC in text)


def smaller_micro_batch(trainer: TrainerConfig) -> int | None:
    """The largest micro-batch of at most half the size that divides the batch; None if there is none."""
    ranks, micro = trainer.devices, trainer.micro_batch_size
    return next((size for size in range(micro // 2, 0, -1) if trainer.batch_size % (size * ranks) == 0), None)
