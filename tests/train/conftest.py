"""One process as its own world, for tests with a real DeepSpeed engine."""

from collections.abc import Iterator

import pytest
import torch

from r2gen import dist


@pytest.fixture(scope="package")
def world() -> Iterator[None]:
    """One thread too: matrices this small are slower on several, much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dist.start(torch.device("cpu"), timeout_s=60)
    yield
    dist.stop()
    torch.set_num_threads(threads)
