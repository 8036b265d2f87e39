"""One rank of a job, started by launch.py:  python -m r2gen.tasks.worker RUN_DIR/config.yaml

Reads nothing but that file. Its exit status is the job's.
"""

import contextlib
import hashlib
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.config.task_table import BY_NAME
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError, lacks, printable
from r2gen.ranks.stop import Stopped, StopRequest, die_with_parent
from r2gen.runs.folder import PRINTED, RunFolder
from r2gen.runs.job_file import read_job
from r2gen.runs.resources import ran_out

try:
    from r2gen.build import pick_device
    from r2gen.ranks import dist
    from r2gen.tasks.dispatch import work_of
except ModuleNotFoundError as error:
    print(f"error: {lacks(error) or error}", file=sys.stderr, flush=True)
    sys.exit(FIXABLE)


def main(job_file: Path) -> int:
    stop = StopRequest()
    if not job_file.is_file():
        print(
            f"error: {socket.gethostname()} does not see {job_file}: with trainer.nodes, run_dir must lie on a file "
            "system that all machines share",
            file=sys.stderr,
            flush=True,
        )
        return FIXABLE
    config = read_job(job_file)
    try:
        status, why = _end_of(config, stop, give_up=lambda message: give_up(config, message))
        # Here the error is gone, and with it the file it was about, whose room run.json may need on a full disk.
        say_why(config, why)
        return status
    finally:
        dist.stop()


def say_why(config: Config, why: str | None) -> None:
    """Record the reason, of the first rank that has one: what the others find follows from it."""
    folder = RunFolder(config.folder)
    if why and config.task in ("train", "import") and folder.exists() and not folder.facts()["reason"]:
        with contextlib.suppress(OSError):  # why has been printed
            folder.record(reason=why)


def give_up(config: Config, message: str) -> None:
    """Ranks that others have waited for did not come."""
    say_why(config, message)
    dist.leave(message)


def _end_of(config: Config, stop: StopRequest, *, give_up: Callable[[str], None]) -> tuple[int, str | None]:
    """Run the task; gives its exit status and, printed by now, why it is not DONE."""
    try:
        device = pick_device(config.trainer.device)
        dist.start(device, timeout_s=config.trainer.timeout_s, give_up=give_up)
        work_of(BY_NAME[config.task])(config, device, stop)
        return DONE, None
    except Stopped:
        if dist.is_first():
            again = f"the same command goes on from the last checkpoint in {config.run_dir}"
            print(f"stopped; {again if config.task == 'train' else 'the same command starts anew'}", flush=True)
        return STOPPED, "stopped by a signal"
    except Exception as error:
        why = str(error) if isinstance(error, UserError) else ran_out(error, config) or dist.lost(error)
        if why == "":  # another rank is gone, and another one says so
            return FIXABLE, None
        why = why or lacks(error)
        if why is None:
            traceback.print_exc()
            return DEFECT, f"{type(error).__name__}: {error}"
        if is_first_to_say(config, why):
            print(f"error: {printable(why)}", file=sys.stderr, flush=True)
        return FIXABLE, why


def is_first_to_say(config: Config, why: str) -> bool:
    """Whether no other rank has said the same: a mistake that every rank meets is one message."""
    said = config.folder / f"{PRINTED}{hashlib.sha256(why.encode('utf-8', 'replace')).hexdigest()[:16]}"
    try:
        said.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk, say: rather twice than never
        return True
    return True


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(Path(sys.argv[1])))
