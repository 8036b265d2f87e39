"""Out of memory, disk, shared memory or open files: such an error as a UserError whose message names the fix."""

import errno
import os
import resource
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import Code, UserError
from r2gen.runs.disk import causes, gone, is_read_only, out_of_disk
from r2gen.runs.phase import Phase

MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")
WORKER_TEXTS = ("DataLoader worker", "unable to allocate shared memory", "Bus error")
GPU_TEXTS = ("CUDA", "CUBLAS", "CUDNN", "GPU")
CODES = {
    Phase.BUILD: Code.MEMORY_BUILD,
    Phase.TRAINING: Code.MEMORY_TRAINING,
    Phase.GENERATION: Code.MEMORY_GENERATION,
}
SHARED_MEMORY = Path("/dev/shm")  # through which the data workers pass their batches
PREFETCHED = 5  # batches per data worker that are in shared memory at once
MIB = 2**20


def out_of_resources(error: BaseException, config: Config, phase: Phase) -> UserError | None:
    """The error of a rank of this configuration as a UserError; None where nothing ran out."""
    if not config.folder.is_dir():
        return gone(config.folder)
    return (
        out_of_files(error, workers=config.trainer.workers or 0)
        or out_of_shared_memory(error, config)
        or out_of_disk(error, config.folder)
        or out_of_memory(error, config, phase)
    )


def out_of_files(error: BaseException, *, workers: int = 0) -> UserError | None:
    """None unless the limit of open files was reached."""
    numbers = (errno.EMFILE, errno.ENFILE)
    texts = ("Too many open files", f"exit code: {errno.EMFILE}", f"exit code {errno.EMFILE}")
    if not any(getattr(link, "errno", None) in numbers or _contains(link, texts) for link in causes(error)):
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    other = f", or use fewer trainer.workers (now {workers})" if workers else ""
    return UserError(
        f"too many open files: this shell allows {limit} per process (`ulimit -n`). Raise the limit, as in "
        f"`ulimit -n 4096`{other}",
        code=Code.INVALID,
    )


def out_of_shared_memory(error: BaseException, config: Config) -> UserError | None:
    """None unless data workers failed, and SHARED_MEMORY is the reason."""
    # Locks of multiprocessing are files there too, and their errors name no file.
    of_lock = any(isinstance(link, OSError) and link.errno and link.filename is None for link in causes(error))
    workers = config.trainer.workers
    if workers == 0 or not (of_lock or any(_contains(link, WORKER_TEXTS) for link in causes(error))):
        return None
    if not SHARED_MEMORY.is_dir():
        why = "does not exist. Mount it"
    elif is_read_only(SHARED_MEMORY) or not os.access(SHARED_MEMORY, os.W_OK):
        why = "is read-only. Make it writable"
    else:
        disk, need = os.statvfs(SHARED_MEMORY), _shared_bytes(config)
        free = disk.f_bavail * disk.f_frsize
        if free >= need:
            return None
        why = (
            f"is full ({free / MIB:,.1f} MiB free, {need / MIB:,.1f} MiB needed). Enlarge it, as in `docker run "
            "--shm-size=8g`"
        )
    given = "null" if workers is None else workers
    return UserError(
        f"trainer.workers={given}: data workers pass batches through {SHARED_MEMORY}, which {why}, or use "
        "trainer.workers=0",
        code=Code.MEMORY_WORKERS,
    )


def _shared_bytes(config: Config) -> int:
    """What the batches of all data workers take at least, with one image per study."""
    studies = max(config.trainer.micro_batch_size, config.evaluate.batch_size)
    size_px = config.vision.get("image_size_px") or 224
    return (config.trainer.workers or 0) * PREFETCHED * studies * 3 * size_px**2 * 4


def out_of_memory(error: BaseException, config: Config, phase: Phase) -> UserError | None:
    """The message names the option to lower, which depends on the phase."""
    chain = list(causes(error))
    if any(_contains(link, WORKER_TEXTS) for link in chain):
        trainer = config.trainer
        workers = "up to 8" if trainer.workers is None else trainer.workers
        return UserError(
            f"a data worker was killed, most often because memory ran out. Lower trainer.workers (now {workers}) or "
            f"trainer.film_cache_mib (now {trainer.film_cache_mib} per worker); the same command then resumes from the "
            "last checkpoint.",
            code=Code.MEMORY_WORKERS,
        )
    errors = [link for link in chain if _is_memory_error(link)]
    if not errors:
        return None
    memory = "GPU memory" if _contains(errors[0], GPU_TEXTS) else "memory"
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
