"""What a run says while it trains: train.jsonl always, a progress bar or plain lines, and W&B where asked."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from r2gen.config.schema import Config
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.ranks import dist
from r2gen.ranks.stop import Stopped
from r2gen.runs.files import PARTIAL, read_jsonl
from r2gen.runs.folder import RunFolder
from r2gen.train.published import Fact, ShownStudy, shown_config, tags_of

Record = dict[str, Any]
PLAIN_EVERY_S = 5.0
# How W&B behaves unless its user's environment says otherwise: no reports of its own failures, and a job that waits for
# no network. At a kill the last two seconds are lost.
DEFAULTS = {
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "2",
}
# What W&B would take from this machine unasked: code, git state, console text (it may hold reports), command line and
# host name, hardware probes, package list.
UNSEEN: dict[str, Any] = {
    "disable_code": True,
    "disable_git": True,
    "console": "off",
    "x_disable_meta": True,
    "host": "-",
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_job_creation": True,
}


class Logger(Protocol):
    """One that `conf/logger` names; called on rank 0 only, between `start` and `close` (see `opened`)."""

    wants_examples: bool  # whether `examples` shall be called: it reads images

    def start(self, *, run_dir: Path, run: Record, config: Config, job_id: str, resumes: bool) -> None: ...

    def log(self, record: Record) -> None: ...

    def summary(self, facts: Mapping[str, Fact]) -> None: ...

    def examples(self, studies: Sequence[ShownStudy]) -> None: ...

    def close(self, exit_status: int) -> None: ...


class NoLogger:
    """Files of the run folder only."""

    wants_examples = False

    def start(self, *, run_dir: Path, run: Record, config: Config, job_id: str, resumes: bool) -> None:
        pass

    def log(self, record: Record) -> None:
        pass

    def summary(self, facts: Mapping[str, Fact]) -> None:
        pass

    def examples(self, studies: Sequence[ShownStudy]) -> None:
        pass

    def close(self, exit_status: int) -> None:
        pass


@contextmanager
def opened(logger: Logger, *, folder: RunFolder, config: Config, job_id: str, resumes: bool) -> Iterator[Logger]:
    """The logger, started, and closed with the exit status that the job will have; on other ranks one that is silent.

    `job_id` is the same whenever the same job runs, and `resumes` says that it adds to what it did before.
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

    `mode=auto` sends where W&B finds a key, and otherwise writes files for `wandb sync` into run_dir/wandb. What fails
    in W&B is said once and ends the logging, never the job.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None = None,
        group: str | None = None,
        mode: Literal["auto", "offline", "online"] = "auto",
        log_examples: bool = False,
    ) -> None:
        self.project, self.entity, self.mode, self.wants_examples = project, entity, mode, log_examples
        self.group = None if group is None else Path(group).name  # R2GEN_SWEEP is the sweep's folder
        self.run: Any = None  # None: nothing is logged (any more)

    def start(self, *, run_dir: Path, run: Record, config: Config, job_id: str, resumes: bool) -> None:
        """Open the W&B run `job_id`: a job that goes on does so there, one that starts over replaces it.

        Raises UserError where W&B's key is missing or malformed.
        """
        if "WANDB_SWEEP_ID" in os.environ:
            job_id = os.environ["WANDB_RUN_ID"]  # that a W&B agent waits for
        try:
            self.run = self._opened(run_dir, run, config, job_id, resume="allow" if resumes else None)
        except UserError:
            raise
        except Exception as error:  # whatever it is: a job does not depend on its dashboard
            print(f"W&B: {error}: this job is not logged there", flush=True)

    def _opened(
        self, run_dir: Path, run: Record, config: Config, job_id: str, *, resume: Literal["allow"] | None
    ) -> Any:
        folder = run_dir / "wandb"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # otherwise in the home folder, where the login stays
            os.environ.setdefault(name, str(folder.resolve()))
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        import wandb  # only this logger needs it

        settings = wandb.Settings(**UNSEEN)
        try:
            keyed = self.mode != "offline" and wandb.login(prompt=False, verify=False)
        except wandb.Error as error:
            raise UserError(f"logger.mode={self.mode}: W&B says: {error}") from error
        if self.mode == "online" and not keyed:
            raise UserError(
                "logger.mode=online: W&B has no key here: run `wandb login`, set WANDB_API_KEY, or use "
                "logger.mode=offline"
            )
        start = partial(
            wandb.init,
            project=self.project,
            entity=self.entity,
            group=self.group,
            dir=run_dir,
            name=run_dir.name,
            id=job_id,
            resume=resume,
            job_type=config.task,
            tags=tags_of(config),
            config=shown_config(config, run),
            settings=settings,
        )
        try:
            opened = start(mode="online" if keyed else "offline")
        except wandb.Error as error:
            if not keyed:
                raise
            print(f"W&B cannot be reached: {error}", flush=True)
            wandb.teardown()  # otherwise it says that the id is in use
            opened = start(mode="offline")
        offline = f"files for `wandb sync {Path(opened.dir).parent}`"
        print(f"W&B: {opened.url or offline}", flush=True)
        # Our steps are the axis: W&B's own counter never goes back, as a job does that goes on from a checkpoint.
        opened.define_metric("step")
        opened.define_metric("*", step_metric="step")
        return opened

    def log(self, record: Record) -> None:
        if record["event"] == "step":
            kept = ("loss", "lr", "grad_norm", "samples_per_s", "epoch")
            shown = {f"train/{name}": record[name] for name in kept}
        else:
            shown = {f"{record['split']}/{name}": value for name, value in record["scores"].items()}
            shown[f"{record['split']}/selection"] = record["selection"]
        self._harmless(lambda run: run.log({"step": record["step"], **shown}))

    def summary(self, facts: Mapping[str, Fact]) -> None:
        self._harmless(lambda run: run.summary.update(dict(facts)))

    def examples(self, studies: Sequence[ShownStudy]) -> None:
        """A table of studies: images, reference, report."""
        import wandb

        def send(run: Any) -> None:
            rows = [
                [one.id, [wandb.Image(image) for image in one.images], one.reference, one.report] for one in studies
            ]
            run.log({"studies": wandb.Table(columns=["study", "images", "reference", "report"], data=rows)})

        self._harmless(send)

    def close(self, exit_status: int) -> None:
        word = {DONE: "finished", STOPPED: "stopped"}.get(exit_status, "failed")
        self.summary({"status": word})
        self._harmless(lambda run: run.finish(exit_code=exit_status))
        self.run = None

    def _harmless(self, act: Callable[[Any], None]) -> None:
        """Do it where a run is open; what it raises, whatever that is, closes the log and not the job."""
        try:
            if self.run is not None:
                act(self.run)
        except Exception as error:
            self.run = None
            print(f"W&B: {type(error).__name__}: {error}: this job is no longer logged there", flush=True)


class TrainLog:
    """train.jsonl of a run, and its progress on the terminal. Ranks other than 0 say nothing."""

    def __init__(
        self, run_dir: Path, *, total_steps: int, first_step: int, validated_step: int, logger: Logger
    ) -> None:
        self.file = run_dir / "train.jsonl"
        self.total, self.first, self.logger = total_steps, first_step, logger
        self.active = dist.is_first()
        self.began, self.said = time.monotonic(), 0.0
        if self.active:
            keep_until(self.file, step=first_step, validated_step=validated_step)
        on_terminal = sys.stderr.isatty() and self.active
        self.bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True) if on_terminal else None

    def step(self, record: Record) -> None:
        self._write({"event": "step", **record})
        words = f"loss {record['loss']:.3f}, {record['samples_per_s']:.1f} samples/s"
        if self.bar is not None:
            self.bar.set_postfix_str(words)
            self.bar.update(record["step"] - self.bar.n)
        elif self.active and (time.monotonic() - self.said > PLAIN_EVERY_S or record["step"] == self.total):
            self.said = time.monotonic()
            left_s = (self.said - self.began) / (record["step"] - self.first) * (self.total - record["step"])
            print(
                f"step {record['step']}/{self.total} (epoch {record['epoch']:.2f}): {words}, "
                f"{tqdm.format_interval(left_s)} left",
                flush=True,
            )

    def validation(self, record: Record) -> None:
        self._write({"event": "validation", **record})
        scores = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items())
        self.say(f"validation at step {record['step']}: {scores}{' (best)' if record['best'] else ''}")

    def say(self, text: str) -> None:
        """A line on the terminal, above the bar where there is one."""
        if self.bar is not None:
            self.bar.write(text)
        elif self.active:
            print(text, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _write(self, record: Record) -> None:
        if self.active:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")
            self.logger.log(record)


def keep_until(file: Path, *, step: int, validated_step: int) -> None:
    """Forget what a killed run wrote after the checkpoint it now goes on from."""
    ends = {"step": step, "validation": validated_step}
    kept = [record for record in read_jsonl(file) if record["step"] <= ends[record["event"]]]
    if file.is_file():
        partial = file.with_name(PARTIAL + file.name)
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        partial.replace(file)
