"""The pool records how each job ends: done, failed with a reason, tried again, or stopped.

The jobs are small scripts instead of trainings, each in a process of its own.
"""

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from composed import composed

from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.runs.provenance import now
from r2gen.sweeps.cells import Cell
from r2gen.sweeps.leases import Gpu, Lease, Leases
from r2gen.sweeps.pool import Pool, exit_status
from r2gen.sweeps.record import JobRecord, SweepFolder, SweepRecord
from r2gen.sweeps.slots import LocalJob, LocalSlots
from r2gen.sweeps.view import sweep_lines

CONFIG = composed("trainer.micro_batch_size=4", "trainer.batch_size=8")
# A job that reports a failure with this code, as run.py and its ranks do.
FAILS = """
import json, os, sys
print("error: {code}")
failure = {{"message": "it failed", "code": "{code}", "phase": "training"}}
open(os.environ["R2GEN_FAILURE"], "w").write(json.dumps(failure))
sys.exit(2)
"""
NO_MEMORY = FAILS.format(code="memory.training")
KILLED = "import os; os.kill(os.getpid(), 9)"


class Scripts:
    """Slots whose jobs are the scripts given, one for each word, with the arguments of run.py."""

    def __init__(self, scripts: dict[str, str]) -> None:
        self.scripts, self.commands = scripts, []

    def start(self, config, command, log, *, running):
        self.commands.append(command[2:])
        script = next(self.scripts[word] for word in command if word in self.scripts)
        return LocalJob([sys.executable, "-c", script, *command[2:]], log, {}, Lease([], ExitStack(), ()))


def sweep(folder: Path, scripts: dict[str, str]) -> tuple[Pool, Scripts]:
    where = SweepFolder(folder)
    where.create()
    cells = {number: Cell([word], [word], config=CONFIG, task="train") for number, word in enumerate(scripts)}
    jobs = [JobRecord(number, cell.overrides, task="train") for number, cell in cells.items()]
    slots = Scripts(scripts)
    record = SweepRecord("jobs", "python run.py -m", [], now(), jobs=jobs)
    return Pool(where, record, cells, slots=slots, shared=[], show=lambda record: None), slots


def test_a_failed_job_has_its_reason_and_the_others_continue(tmp_path: Path):
    pool, _ = sweep(
        tmp_path,
        {
            "seed=1": "print('fine')",
            "seed=2": "raise ValueError('no such thing')",
            "seed=3": "import sys; print('error: lm.path=/nope does not exist'); sys.exit(2)",
        },
    )
    pool.run()
    first, second, third = SweepFolder(tmp_path).read().jobs
    assert (first.state, first.reason) == ("done", None)
    assert second.state == "failed"
    assert second.reason == f"ValueError: no such thing (log: {tmp_path}/logs/001.log)"
    assert third.reason.startswith("lm.path=/nope does not exist (log: ")
    assert exit_status(pool.record.jobs) == DEFECT
    assert exit_status([first, third]) == FIXABLE
    assert exit_status([first]) == DONE
    lines = "\n".join(sweep_lines(pool.record, most=None))
    assert "1/3 done, 2 failed" in lines
    assert "failed   seed=2: ValueError: no such thing" in lines


def test_out_of_memory_is_tried_once_more_with_half_the_micro_batch(tmp_path: Path):
    small_enough = "import sys; 'trainer.micro_batch_size=2' in sys.argv and sys.exit(0)\n" + NO_MEMORY
    pool, slots = sweep(tmp_path, {"seed=1": small_enough, "seed=2": NO_MEMORY, "seed=3": KILLED})
    pool.run()
    first, second, third = pool.record.jobs
    assert first.state == "done"
    assert first.micro_batch_size == 2
    assert "out of memory with trainer.micro_batch_size=4: tried again with 2" in first.reason
    assert "still 8 studies per step" in first.reason
    for job in (second, third):
        assert (job.state, job.tries) == ("failed", 2)
        assert "tried again with 2" in job.reason
    assert third.reason.startswith("ended by signal 9; its log is empty (log: ")
    assert sum("trainer.micro_batch_size=2" in command for command in slots.commands) == 3
    assert "error: memory.training" in (tmp_path / "logs" / "000.first.log").read_text()


@pytest.mark.parametrize("code", ["memory.build", "memory.generation", "rank.lost", "invalid"])
def test_a_failure_that_a_smaller_micro_batch_does_not_change_is_not_tried_again(tmp_path: Path, code: str):
    pool, slots = sweep(tmp_path, {"seed=1": FAILS.format(code=code)})
    pool.run()
    (job,) = pool.record.jobs
    assert (job.state, job.tries, job.reason) == ("failed", 1, f"{code} (log: {tmp_path}/logs/000.log)")
    assert len(slots.commands) == 1


def test_the_text_of_a_log_decides_nothing(tmp_path: Path):
    """Only codes do: a log may quote any message, as of an earlier error that was handled."""
    quoted = "print('torch.OutOfMemoryError: CUDA out of memory'); print('is in use by another command'); exit(2)"
    pool, slots = sweep(tmp_path, {"seed=1": quoted})
    pool.run()
    assert pool.record.jobs[0].state == "failed"
    assert len(slots.commands) == 1


def test_a_job_whose_run_folder_is_busy_waits_and_runs_later(tmp_path: Path):
    once = f"import pathlib; seen = pathlib.Path({str(tmp_path / 'seen')!r}); seen.exists() and exit(0); seen.touch()\n"
    pool, _ = sweep(tmp_path, {"seed=1": once + FAILS.format(code="busy")})
    pool.run()
    (job,) = pool.record.jobs
    assert (job.state, job.tries, job.reason, job.micro_batch_size) == ("done", 2, None, None)


def test_a_signal_stops_the_jobs_and_leaves_the_rest_for_the_next_command(tmp_path: Path):
    saves = "import signal, time; signal.signal(15, lambda *_: exit(3)); print('up', flush=True); time.sleep(60)"
    pool, slots = sweep(tmp_path, {"seed=1": saves, "seed=2": saves})
    start, slots.start = slots.start, lambda *a, running: start(*a, running=running) if not running else None
    log = tmp_path / "logs" / "000.log"

    def stop_once_started():
        while not log.is_file() or "up" not in log.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_once_started).start()
    pool.run()
    assert [job.state for job in pool.record.jobs] == ["stopped", "waiting"]
    assert exit_status(pool.record.jobs) == STOPPED


@pytest.mark.parametrize(("devices", "n_jobs", "at_once"), [(1, None, 3), (1, 2, 2), (2, None, 1), (3, None, 1)])
def test_as_many_jobs_run_at_a_time_as_there_are_gpus_for(
    devices: int, n_jobs: int | None, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gpus = [Gpu(str(number), f"GPU-{number}") for number in range(3)]
    slots = LocalSlots(Leases(gpus, tmp_path), n_jobs=n_jobs, gpus_per_job=None)
    config = composed(f"trainer.devices={devices}", "trainer.batch_size=12", "trainer.micro_batch_size=1")
    jobs = []
    while job := slots.start(config, ["sleep", "60"], tmp_path / "log", running=len(jobs)):
        jobs.append(job)
    assert len(jobs) == at_once
    leased = [gpu for job in jobs for gpu in job.gpus]
    assert len(leased) == len(set(leased)) == at_once * devices
    for job in jobs:
        job.process.kill()
        job.process.wait()
    cores = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    job = slots.start(
        config, ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES, $OMP_NUM_THREADS threads"], tmp_path / "log", running=0
    )
    job.process.wait()
    threads = max(1, cores // at_once // devices)
    assert (tmp_path / "log").read_text() == f"{','.join(job.gpus)}, {threads} threads\n"
    with pytest.raises(UserError, match="the job needs 4 GPUs, and this machine has 3"):
        slots.start(composed("trainer.devices=4", "trainer.micro_batch_size=1"), ["true"], tmp_path / "log", running=0)
    assert slots.start(composed("trainer.device=cpu"), ["true"], tmp_path / "log", running=0).gpus == []


def test_queued_jobs_stay_in_their_queue_after_a_signal(tmp_path: Path):
    pool, slots = sweep(tmp_path, {"seed=1": "import time; time.sleep(60)"})
    start = slots.start
    started = []

    def queued(*arguments, running):
        started.append(start(*arguments, running=running))
        started[0].queue_id = "4711"
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return started[0]

    slots.start = queued
    pool.run()
    (job,) = SweepFolder(tmp_path).read().jobs
    assert (job.state, job.queue_id) == ("running", "4711"), "the next command adopts it by that number"
    assert started[0].poll() is None
    started[0].process.kill()
    started[0].process.wait()


def test_a_folder_with_other_files_is_refused_and_keeps_its_mode(tmp_path: Path):
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir=.* holds other files \(thesis\.tex, \.\.\.\)"):
        SweepFolder(tmp_path).create()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
