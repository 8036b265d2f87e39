"""R2Gen: train, test and compare chest X-ray report generators in which the language model is one config word."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2gen.tasks.generate import TrainedRun


def load_run(run_dir: str | Path, *, device: str = "auto", lm_path: str | None = None) -> "TrainedRun":
    """The best checkpoint of a run folder, ready to write reports: see r2gen.trained.load_run."""
    from r2gen.tasks import generate  # torch is imported only here: `import r2gen` stays quick

    return generate.load_run(run_dir, device=device, lm_path=lm_path)
