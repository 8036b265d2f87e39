"""The progress of a run, read from its folder while it trains."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from r2gen.errors import UserError
from r2gen.runs.files import read_tail
from r2gen.runs.folder import RunFolder
from r2gen.runs.train_log import last_records

TAIL_BYTES = 2**14  # of train.jsonl: they hold its last few records


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    left_s: float | None  # of training, without the scoring after it; None until there are two records

    def __str__(self) -> str:
        if self.step >= self.steps:
            return f"step {self.step}/{self.steps}, scoring"
        left = f", {tqdm.format_interval(self.left_s)} left" if self.left_s is not None else ""
        return f"step {self.step}/{self.steps}{left}"


def progress_of(run_dir: Path) -> Progress | None:
    """The progress of the run; None if it has not begun to train."""
    try:
        steps = RunFolder(run_dir).facts().get("steps")
        log = run_dir / "train.jsonl"
        records = last_records(log, read_tail(log, TAIL_BYTES))
    except (OSError, UserError):
        return None
    if steps is None or not records:
        return None
    step = int(max(record["step"] for record in records))
    timed = [record for record in records if record.keys() >= {"samples_per_s", "seconds"}]
    left_s = None
    if len(timed) > 1 and timed[-1]["seconds"] > timed[0]["seconds"] and timed[-1]["step"] > timed[0]["step"]:
        step_s = (timed[-1]["seconds"] - timed[0]["seconds"]) / (timed[-1]["step"] - timed[0]["step"])
        left_s = (steps - step) * step_s
    return Progress(step, steps, left_s)
