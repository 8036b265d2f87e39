"""The log of a training: train.jsonl always, a progress bar or plain lines, and W&B with logger=wandb."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from r2gen.config.plain import Plain
from r2gen.config.schema import Config
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.ranks import dist
from r2gen.ranks.stop import Stopped
from r2gen.runs.files import append, make_folder, write_whole
from r2gen.runs.folder import RunFolder
from r2gen.runs.progress import PLAIN_EVERY_S, bar, wrapped
from r2gen.runs.train_log import read_train_log
from r2gen.train.checkpoint import TrainState
from r2gen.train.published import Fact, ShownStudy, shown_config, tags_of

# Defaults for W&B, which its user's environment may override: no reports of its own failures, and no waiting for a
# network. A kill loses the last two seconds.
WANDB_ENVIRONMENT = {
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "2",
}
# What W&B would otherwise collect from this machine: code, git state, console text (which may contain reports), command
# line and host name, hardware, list of packages.
NOT_COLLECTED: Mapping[str, Any] = {
    "disable_code": True,
    "disable_git": True,
    "console": "off",
    "x_disable_meta": True,
    "host": "-",
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_job_creation": True,
}


@dataclass(frozen=True)
class StepRecord:
    """A line of train.jsonl: one optimiser step."""

    step: int
    epoch: float
    loss: float  # nats per target token, with trainer.label_smoothing
    lr: float  # trainer.learning_rate at this step, before trainer.learning_rate_scale
    grad_norm: float
    samples_per_s: float
    seconds: float  # spent in training steps so far
    peak_gib: float
    objective: Mapping[str, float] = field(default_factory=dict)  # numbers of the objective about this step


@dataclass(frozen=True)
class ValidationRecord:
    """A line of train.jsonl: one validation."""

    step: int
    epoch: float
    split: str
    scores: Mapping[str, float]
    selection: float  # the number that picks the best checkpoint
    best: bool  # whether it is the best so far


class Logger(Protocol):
    """What the group `logger` of conf/ builds. Called on rank 0 only, between `start` and `close` (see `opened`)."""

    wants_examples: bool  # whether to call `examples`, which reads images

    def start(self, *, run_dir: Path, run: Plain, config: Config, job_id: str, resumes: bool) -> None: ...

    def log(self, record: StepRecord | ValidationRecord) -> None: ...

    def summary(self, facts: Mapping[str, Fact]) -> None: ...

    def examples(self, studies: Sequence[ShownStudy]) -> None: ...

    def close(self, exit_status: int) -> None: ...


class NoLogger:
    """Logs nothing besides the files of the run folder."""

    wants_examples = False

    def start(self, *, run_dir: Path, run: Plain, config: Config, job_id: str, resumes: bool) -> None:
        pass

    def log(self, record: StepRecord | ValidationRecord) -> None:
        pass

    def summary(self, facts: Mapping[str, Fact]) -> None:
        pass

    def examples(self, studies: Sequence[ShownStudy]) -> None:
        pass

    def close(self, exit_status: int) -> None:
        pass


@contextmanager
def opened(logger: Logger, *, folder: RunFolder, config: Config, job_id: str, resumes: bool) -> Iterator[Logger]:
    """The started logger, which is closed with the exit status of the job; on other ranks one that logs nothing.

    `job_id` is the same whenever the same job runs; with `resumes` the job adds to what it logged before.
    """
    if not dist.is_first():
        yield NoLogger()
        return
    logger.start(run_dir=folder.path, run=folder.facts(), config=config, job_id=job_id, resumes=resumes)
    status = DEFECT
    try:
        yield logger
        status = DONE
    except Stopped:
        status = STOPPED
        raise
    except UserError:
        status = FIXABLE
        raise
    finally:
        logger.close(status)


class WandbLogger:
    """Weights & Biases: numbers and configuration. With `log_examples` also reports and images, which are patient data.

    With `mode=auto` it sends if W&B has a key here, and otherwise writes files for `wandb sync` into run_dir/wandb. A
    failure of W&B is printed once and ends the logging, not the job.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None = None,
        group: str | None = None,
        name: str | None = None,
        varied: Mapping[str, str] | None = None,
        mode: Literal["auto", "offline", "online"] = "auto",
        log_examples: bool = False,
    ) -> None:
        self.project, self.entity, self.mode, self.wants_examples = project, entity, mode, log_examples
        self.group = None if group is None else Path(group).name  # R2GEN_SWEEP is the path of the sweep's folder
        self.name, self.varied = name, varied or {}
        self.run: Any = None  # None: nothing is logged, or no longer

    def start(self, *, run_dir: Path, run: Plain, config: Config, job_id: str, resumes: bool) -> None:
        """Open the W&B run `job_id`: a job that resumes continues that run, one that starts over replaces it.

        Raises UserError if W&B's key is missing or malformed.
        """
        if "WANDB_SWEEP_ID" in os.environ:
            job_id = os.environ["WANDB_RUN_ID"]  # the run that a W&B agent waits for
        try:
            self.run = self._open(run_dir, run, config, job_id, resume="allow" if resumes else None)
        except UserError:
            raise
        except Exception as error:  # any error: a job does not depend on its dashboard
            print(f"W&B: {error}: this job is not logged there", flush=True)

    def _open(self, run_dir: Path, run: Plain, config: Config, job_id: str, *, resume: Literal["allow"] | None) -> Any:
        folder = run_dir / "wandb"
        make_folder(folder)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # by default in the home folder; the login stays there
            os.environ.setdefault(name, str(folder.resolve()))
        for name, value in WANDB_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import wandb  # only this logger needs it

        has_key = self._login()
        init = partial(
            wandb.init,
            project=self.project,
            entity=self.entity,
            group=self.group,
            dir=run_dir,
            name=self.name or run_dir.name,
            id=job_id,
            resume=resume,
            job_type=config.task,
            tags=tags_of(config),
            config=shown_config(config, run, varied=self.varied),
            settings=wandb.Settings(**NOT_COLLECTED),
        )
        try:
            opened = init(mode="online" if has_key else "offline")
        except wandb.Error as error:
            if not has_key:
                raise
            print(f"W&B cannot be reached: {error}", flush=True)
            wandb.teardown()  # otherwise wandb refuses the id as already in use
            opened = init(mode="offline")
        offline = f"files for `wandb sync {Path(opened.dir).parent}`"
        print(f"W&B: {opened.url or offline}", flush=True)
        # The step is the axis of all charts: W&B's own counter cannot go back, as a job does that resumes from a
        # checkpoint.
        opened.define_metric("step")
        opened.define_metric("*", step_metric="step")
        return opened

    def _login(self) -> bool:
        """Whether there is a key to send with. Raises UserError if one is needed, or if it is malformed."""
        import wandb

        try:
            has_key = self.mode != "offline" and bool(wandb.login(prompt=False, verify=False))
        except wandb.Error as error:
            raise UserError(f"logger.mode={self.mode}: W&B says: {error}") from error
        if self.mode == "online" and not has_key:
            raise UserError(
                "logger.mode=online: W&B has no key here: run `wandb login`, set WANDB_API_KEY, or use "
                "logger.mode=offline"
            )
        return has_key

    def log(self, record: StepRecord | ValidationRecord) -> None:
        if isinstance(record, StepRecord):
            names = ("loss", "lr", "grad_norm", "samples_per_s", "epoch")
            values = {f"train/{name}": getattr(record, name) for name in names}
            values |= {f"train/{name}": value for name, value in record.objective.items()}
        else:
            values = {f"{record.split}/{name}": value for name, value in record.scores.items()}
            values[f"{record.split}/selection"] = record.selection
        self._send(lambda run: run.log({"step": record.step, **values}))

    def summary(self, facts: Mapping[str, Fact]) -> None:
        self._send(lambda run: run.summary.update(dict(facts)))

    def examples(self, studies: Sequence[ShownStudy]) -> None:
        """A table of studies: images, reference, report."""
        import wandb

        def log_table(run: Any) -> None:
            rows = [
                [study.id, [wandb.Image(image) for image in study.images], study.reference, study.report]
                for study in studies
            ]
            run.log({"studies": wandb.Table(columns=["study", "images", "reference", "report"], data=rows)})

        self._send(log_table)

    def close(self, exit_status: int) -> None:
        self.summary({"status": {DONE: "finished", STOPPED: "stopped"}.get(exit_status, "failed")})
        self._send(lambda run: run.finish(exit_code=exit_status))
        self.run = None

    def _send(self, action: Callable[[Any], None]) -> None:
        """Call `action` with the W&B run if it is open; any error ends the logging, not the job."""
        try:
            if self.run is not None:
                action(self.run)
        except Exception as error:
            self.run = None
            print(f"W&B: {type(error).__name__}: {error}: this job is no longer logged there", flush=True)


class TrainLog:
    """train.jsonl of a run, and its progress on the terminal, from a state on. Only rank 0 writes."""

    def __init__(self, run_dir: Path, state: TrainState, *, total_steps: int, logger: Logger) -> None:
        self.file = run_dir / "train.jsonl"
        self.total, self.first, self.logger = total_steps, state.step, logger
        self.active = dist.is_first()
        self.began, self.printed = time.monotonic(), 0.0
        if self.active:
            forget_after(self.file, state)
        on_terminal = sys.stderr.isatty() and self.active
        self.bar = (
            bar(total=total_steps, title="training", unit="step", initial=state.step, leave=True)
            if on_terminal
            else None
        )

    def done(self, step: int) -> None:
        """Move the progress bar, which a record does only every trainer.log_every_steps steps."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def step(self, record: StepRecord) -> None:
        self._write("step", record)
        figures = "".join(f", {name} {value:.3f}" for name, value in record.objective.items())
        progress = f"loss {record.loss:.3f}{figures}, {record.samples_per_s:.1f} samples/s"
        if self.bar is not None:
            self.bar.set_postfix_str(progress)
        elif self.active and (time.monotonic() - self.printed > PLAIN_EVERY_S or record.step == self.total):
            self.printed = time.monotonic()
            left_s = (self.printed - self.began) / (record.step - self.first) * (self.total - record.step)
            print(
                f"step {record.step}/{self.total} (epoch {record.epoch:.2f}): {progress}, "
                f"{tqdm.format_interval(left_s)} left",
                flush=True,
            )

    def validation(self, record: ValidationRecord) -> None:
        self._write("validation", record)
        scores = ", ".join(f"{name} {value:.3f}" for name, value in record.scores.items())
        self.print_line(f"validation at step {record.step}: {scores}{' (best)' if record.best else ''}")

    def print_line(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        if self.bar is not None:
            self.bar.write(wrapped(text))
        elif self.active:
            print(text, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _write(self, event: Literal["step", "validation"], record: StepRecord | ValidationRecord) -> None:
        if self.active:
            values = {name: value for name, value in asdict(record).items() if name != "objective" or value}
            append(self.file, (json.dumps({"event": event, **values}) + "\n").encode())
            self.logger.log(record)


def forget_after(file: Path, state: TrainState) -> None:
    """Remove the lines that a killed run wrote after the checkpoint from which it resumes."""
    last = {"step": state.step, "validation": state.validated_step}
    records = [record for record in read_train_log(file) if record["step"] <= last[record["event"]]]
    if file.exists():
        write_whole(file, "".join(json.dumps(record) + "\n" for record in records))
