"""Out of memory or out of disk: such an error as a UserError whose message names the fix."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import Code, UserError
from r2gen.runs.phase import Phase

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries that raise errors of their own (safetensors, torch.save) are recognised by their text.
DISK_TEXTS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "PytorchStreamWriter failed",
    "inline_container.cc",
)
MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")
WORKER_TEXTS = ("DataLoader worker", "unable to allocate shared memory", "Bus error")
GPU_TEXTS = ("CUDA", "CUBLAS", "CUDNN", "GPU")
CODES = {
    Phase.BUILD: Code.MEMORY_BUILD,
    Phase.TRAINING: Code.MEMORY_TRAINING,
    Phase.GENERATION: Code.MEMORY_GENERATION,
}
MIB = 2**20


def out_of_resources(error: BaseException, config: Config, phase: Phase) -> UserError | None:
    """The error of a rank of this configuration as a UserError; None where neither disk nor memory ran out."""
    return out_of_disk(error, config.folder) or out_of_memory(error, config, phase)


def out_of_disk(error: BaseException, folder: Path | str, *, need_bytes: int | None = None) -> UserError | None:
    """`need_bytes` is the size of what was being written, if it is known."""
    chain = list(_chain(error))
    if any(isinstance(link, OSError) and link.errno == errno.EROFS for link in chain):
        return UserError(
            f"run_dir={folder}: its file system has become read-only. Make it writable; the same command then resumes.",
            code=Code.DISK,
        )
    full = [link for link in chain if isinstance(link, OSError) and link.errno in DISK_ERRNOS]
    if not full and not any(_contains(link, DISK_TEXTS) for link in chain):
        return None
    needed = f", {need_bytes / MIB:,.1f} MiB needed" if need_bytes is not None else ""
    return UserError(
        f"run_dir={folder}: the disk is full ({shutil.disk_usage(folder).free / MIB:,.1f} MiB free{needed}). Free some "
        "space or raise the quota; the same command then resumes, and earlier checkpoints are intact.",
        code=Code.DISK,
    )


def out_of_memory(error: BaseException, config: Config, phase: Phase) -> UserError | None:
    """The message names the option to lower, which depends on the phase."""
    chain = list(_chain(error))
    if any(_contains(link, WORKER_TEXTS) for link in chain):
        trainer = config.trainer
        return UserError(
            f"a data worker was killed, most often because memory ran out. Lower trainer.workers (now "
            f"{trainer.workers}) or trainer.film_cache_mib (now {trainer.film_cache_mib} per worker); the same "
            "command then resumes from the last checkpoint.",
            code=Code.MEMORY_WORKERS,
        )
    causes = [link for link in chain if _is_memory_error(link)]
    if not causes:
        return None
    memory = "GPU memory" if _contains(causes[0], GPU_TEXTS) else "memory"
    return UserError(f"out of {memory} {_advice(config, phase)}", code=CODES[phase])


def _is_memory_error(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and _contains(error, MEMORY_TEXTS))
    )


def _advice(config: Config, phase: Phase) -> str:
    if phase is Phase.BUILD:
        return (
            "while the model was built. Use a quantised language model (quant=nf4), a smaller one, or a machine with "
            "more memory."
        )
    if phase is Phase.GENERATION:
        when, option, now = "while reports were generated", "evaluate.batch_size", config.evaluate.batch_size
        effect = "scores change by rounding at most"
    else:
        when, option, now = "in a training step", "trainer.micro_batch_size", config.trainer.micro_batch_size
        effect = f"a step still uses trainer.batch_size={config.trainer.batch_size} studies"
    if now == 1:
        return (
            f"{when} at {option}=1. Use lm.gradient_checkpointing=true, quant=nf4 or a smaller language model, or a "
            "machine with more memory."
        )
    half = max(size for size in range(1, now // 2 + 1) if now % size == 0)
    return f"{when}. Pass {option}={half} (now {now}; {effect}); the command then resumes from the last checkpoint."


def _contains(error: BaseException, texts: tuple[str, ...]) -> bool:
    return any(text in str(error) for text in texts)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
