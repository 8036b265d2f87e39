"""task=generate: the report of one study."""

import torch

from r2gen.config.schema import Config
from r2gen.errors import printable
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.progress import working
from r2gen.trained_run import TrainedRun


def generate(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Print the report of one study's images."""
    if dist.is_first():
        with working("loading the run"):
            run = TrainedRun(config, device=device)
        print(printable(run.generate(config.images, **vars(config.given))), flush=True)
    dist.barrier()
