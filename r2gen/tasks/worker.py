"""One rank of a job:  python -m r2gen.tasks.worker RUN_DIR/config.yaml

It reads nothing but that file. The worst exit status of the ranks is the job's. The command starts its ranks before
they have a job, and hands the file over (r2gen/ranks/handover.py).
"""

import atexit
import contextlib
import gc
import hashlib
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from r2gen.cli.streams import keep_streams
from r2gen.config.schema import Config
from r2gen.config.task_table import BY_NAME
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, Code, UserError, missing_package, printable
from r2gen.ranks.exchange import FOLDER
from r2gen.ranks.handover import USE_GPU, JobFile
from r2gen.ranks.stop import Stopped, StopRequest, die_with_parent
from r2gen.runs.failure import Failure, report
from r2gen.runs.folder import PRINTED, PRIVATE, RunFolder
from r2gen.runs.job_file import read_job
from r2gen.runs.phase import current_phase
from r2gen.runs.progress import wait_for
from r2gen.runs.resources import out_of_resources
from r2gen.runs.special_files import refuse_special_files
from r2gen.unused import with_models_scanned_once, without, without_looking_for_files

statuses = [DEFECT]  # the last one is that of this process; the first: an exception, which Python has printed


def leave_at_once() -> None:
    """End this process without freeing torch's modules and tensors one by one, which takes a second or more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(statuses[-1])


imported = threading.Event()
reading = threading.Event()  # the weights, or it is decided that they are not read early


def begin(job_file: Path) -> None:
    """With a job, and while packages are imported: read its weights, and show the imports, which only rank 0 does."""
    if USE_GPU in sys.argv:
        threading.Thread(target=read_weights, args=(job_file,), daemon=True).start()
    else:
        reading.set()
    if os.environ.get("RANK", "0") == "0":
        wait_for("loading torch", imported.wait, after_s=0, leave=True)


def read_weights(job_file: Path) -> None:
    try:
        from r2gen.tasks.read_early import read_weights_early

        read_weights_early(job_file, int(os.environ["LOCAL_RANK"]))
    except ImportError:
        pass  # the imports below report it
    finally:
        reading.set()


if __name__ == "__main__":
    atexit.register(leave_at_once)  # called last, since what the packages below register comes later
    die_with_parent()
    os.umask(PRIVATE)
    keep_streams()
    job_file = JobFile(sys.argv[1:], then=begin)
gc.disable()  # a fourth of the time in which the packages below are imported
first_use: threading.Thread | None = None
try:
    if USE_GPU in sys.argv:
        from r2gen.ranks.first_use import use_gpu_early

        first_use = use_gpu_early(int(os.environ["LOCAL_RANK"]))
    # transformers imports these packages, which takes a second
    with without("sklearn", "scipy"), without_looking_for_files(), with_models_scanned_once():
        from r2gen.build import pick_device
        from r2gen.ranks import dist
        from r2gen.tasks.dispatch import work_of
except Exception as error:
    imported.set()
    if __name__ == "__main__":
        job_file.path()  # a rank is silent if the command refuses the job
    if not isinstance(error, ModuleNotFoundError):
        raise
    missing = missing_package(error) or UserError(str(error))
    report(Failure.of(missing))
    print(f"error: {missing}", file=sys.stderr, flush=True)
    statuses.append(FIXABLE)
    sys.exit(FIXABLE)
imported.set()
gc.enable()
gc.freeze()  # what was imported stays
if __name__ == "__main__":
    refuse_special_files()  # not before: each of the thousands of files that an import opens would be looked at


def main(job_file: Path) -> int:
    stop = StopRequest()
    if not job_file.is_file():
        print(
            f"error: {socket.gethostname()} does not see {job_file}: with trainer.nodes, run_dir must be on a file "
            "system that all machines share",
            file=sys.stderr,
            flush=True,
        )
        return FIXABLE
    config = read_job(job_file)
    try:
        status, failure = _run_task(config, stop)
        # The error is freed by now, and with it the file that it was about: on a full disk run.json needs that room.
        if failure is not None:
            record(config, failure)
        return status
    finally:
        dist.stop()


def record(config: Config, failure: Failure) -> None:
    """Record the failure in run.json and for a sweep. The first one counts: the others' failures follow from it."""
    report(failure)
    folder = RunFolder(config.folder)
    if BY_NAME[config.task].on == "new run" and folder.exists() and not folder.facts()["reason"]:
        with contextlib.suppress(OSError):  # the message has been printed
            folder.record(**failure.facts())


def _run_task(config: Config, stop: StopRequest) -> tuple[int, Failure | None]:
    """Run the task. Returns the exit status and, if it failed and no other rank reports why, the failure, printed."""
    try:
        device = pick_device(config.trainer.device)
        dist.start(device, timeout_s=config.trainer.timeout_s, give_up=_give_up(config))
        work = work_of(BY_NAME[config.task])  # imports more packages
        if first_use is not None:
            first_use.join()
        work(config, device, stop)
        return DONE, None
    except Stopped:
        if dist.is_first():
            again = {
                "train": f"the same command resumes from the last checkpoint in {config.run_dir}",
                "predict": f"the same command resumes after the reports in {config.out}",
            }
            print(f"stopped; {again.get(config.task, 'the same command starts again')}", flush=True)
        return STOPPED, None
    except Exception as error:
        phase = current_phase()
        user_error = error if isinstance(error, UserError) else out_of_resources(error, config, phase)
        if user_error is None and (lost := dist.lost(error)) is not None:
            if not lost:
                return FIXABLE, None  # the lost rank, or another one, reports it
            user_error = UserError(lost, code=Code.RANK_LOST)
        user_error = user_error or missing_package(error)
        if user_error is None:
            traceback.print_exc()
            return DEFECT, Failure(f"{type(error).__name__}: {error}", Code.DEFECT, phase)
        if is_first_to_print(config.folder, str(user_error)):
            print(f"error: {printable(str(user_error))}", file=sys.stderr, flush=True)
        return FIXABLE, Failure.of(user_error, phase)


def _give_up(config: Config) -> Callable[[str], None]:
    """What this rank does when others do not respond: record the message, if it is the one to report, and exit."""

    def give_up(message: str) -> None:
        try:
            if message:
                record(config, Failure(message, Code.RANK_LOST, current_phase()))
        finally:
            dist.leave(message)

    return give_up


def is_first_to_print(run_dir: Path, message: str) -> bool:
    """Whether no other rank has printed the message: an error that every rank meets is printed once."""
    digest = hashlib.sha256(message.encode("utf-8", "replace")).hexdigest()[:16]
    try:
        (Path(os.environ.get(FOLDER, run_dir)) / f"{PRINTED}{digest}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # on a full disk, for example: better twice than never
        return True
    return True


if __name__ == "__main__":
    path = job_file.path()
    reading.wait()
    statuses.append(main(path))
    sys.exit(statuses[-1])
