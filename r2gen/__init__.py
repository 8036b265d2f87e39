"""R2Gen: train, test and compare chest X-ray report generators in which the language model is one config word."""

from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"  # pyproject.toml reads it from here

if TYPE_CHECKING:
    from r2gen.trained_run import TrainedRun


def load_run(run_dir: str | Path, *, device: str = "auto", lm_path: str | None = None) -> "TrainedRun":
    """The best checkpoint of a run folder, ready to generate reports: see r2gen.trained_run.load_run."""
    from r2gen import trained_run  # torch is imported only here, so that `import r2gen` is fast

    return trained_run.load_run(run_dir, device=device, lm_path=lm_path)
