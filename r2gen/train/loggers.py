"""What a run says while it trains: train.jsonl always, a progress bar or plain lines, and W&B where asked."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from r2gen import dist
from r2gen.errors import UserError
from r2gen.run_folder import read_jsonl

Record = dict[str, Any]
PLAIN_EVERY_S = 5.0


class Logger(Protocol):
    """One that `conf/logger` names; called on rank 0 only."""

    def start(self, *, run_dir: Path, run: Record, config: Record) -> None: ...

    def log(self, record: Record) -> None: ...

    def close(self, status: str, summary: dict[str, float]) -> None: ...


class NoLogger:
    """Files of the run folder only."""

    def start(self, *, run_dir: Path, run: Record, config: Record) -> None:
        pass

    def log(self, record: Record) -> None:
        pass

    def close(self, status: str, summary: dict[str, float]) -> None:
        pass


class WandbLogger:
    """Weights & Biases: numbers and configuration only, no report text and no film."""

    def __init__(
        self, *, project: str, entity: str | None = None, group: str | None = None,
        mode: Literal["offline", "online"] = "offline",
    ) -> None:  # fmt: skip
        self.project, self.entity, self.group, self.mode = project, entity, group, mode

    def start(self, *, run_dir: Path, run: Record, config: Record) -> None:
        """Open the W&B run whose id is the identity of ours, so that a resumed run goes on in the same one.

        Raises UserError where W&B has no key, or refuses.
        """
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):  # otherwise in the home folder, where the login stays
            os.environ.setdefault(name, str(run_dir.resolve() / "wandb"))
        import wandb  # only this logger needs it

        try:
            self.run = wandb.init(project=self.project, entity=self.entity, group=self.group, mode=self.mode,
                                  dir=run_dir, id=run["identity"], name=run["name"], resume="allow", config=config,
                                  job_type=run["task"],
                                  settings=wandb.Settings(silent=True, console="off"))  # fmt: skip
        except wandb.Error as error:
            raise UserError(f"logger.mode={self.mode}: W&B says: {error}\nwhere it has no key here, run "
                            "`wandb login`, or use logger.mode=offline") from error  # fmt: skip

    def log(self, record: Record) -> None:
        step = record["step"]
        if record["event"] == "step":
            kept = ("loss", "lr", "grad_norm", "samples_per_s", "epoch")
            self.run.log({f"train/{name}": record[name] for name in kept}, step=step)
        else:
            self.run.log({f"{record['split']}/{name}": value for name, value in record["scores"].items()}, step=step)

    def close(self, status: str, summary: dict[str, float]) -> None:
        self.run.summary.update(summary)
        self.run.finish(exit_code=0 if status == "finished" else 1)


class TrainLog:
    """train.jsonl of a run, and its progress on the terminal. Ranks other than 0 say nothing."""

    def __init__(self, run_dir: Path, *, total_steps: int, first_step: int, logger: Logger) -> None:
        self.file = run_dir / "train.jsonl"
        self.total, self.first, self.logger = total_steps, first_step, logger
        self.active = dist.is_first()
        self.began, self.said = time.monotonic(), 0.0
        if self.active:
            keep_until(self.file, first_step)
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
            print(f"step {record['step']}/{self.total} (epoch {record['epoch']:.2f}): {words}, "
                  f"{minutes(left_s)} left", flush=True)  # fmt: skip

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


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def keep_until(file: Path, step: int) -> None:
    """Forget what a killed run wrote after the checkpoint it now goes on from."""
    kept = [record for record in read_jsonl(file) if record["step"] <= step]
    if file.is_file():
        partial = file.with_suffix(".partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        partial.replace(file)
