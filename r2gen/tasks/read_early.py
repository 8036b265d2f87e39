"""The weights that a rank reads while it imports its packages, as its job says."""

from pathlib import Path

import torch

from r2gen.lm import early_weights
from r2gen.runs.job_file import read_job

TASKS = ("train", "evaluate", "generate", "predict", "demo")  # that compute with the language model on the GPU
QUANTISATIONS = ("none", "fp8")  # the others quantise each weight when transformers reads it


def read_weights_early(job_file: Path, local_rank: int) -> None:
    """Begin to read the language model of a job to the GPU of this rank, if its weights are in a folder."""
    try:
        config = read_job(job_file)
    except Exception:  # of any type
        return  # the rank says so when it reads the job itself
    path = config.lm.path
    if (
        config.task in TASKS
        and path is not None
        and Path(path).expanduser().is_dir()
        and config.lm.device_map is None
        and config.quant.mode in QUANTISATIONS
        and local_rank < torch.cuda.device_count()
    ):
        early_weights.start(Path(path).expanduser(), torch.device("cuda", local_rank))
