"""A process group of one rank, for tests with a real DeepSpeed engine."""

from collections.abc import Iterator

import pytest
import torch

from r2gen.ranks import dist


@pytest.fixture(scope="package")
def world() -> Iterator[None]:
    dist.start(torch.device("cpu"), timeout_s=60)
    yield
    dist.stop()


@pytest.fixture(autouse=True)
def _linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what ZeRO 3 replaces in torch for the rest of the process: torchao's tensors do not work with it."""
    monkeypatch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)
