"""A rank uses its GPU in a thread, which is silent if there is none."""

import pytest
import torch

from r2gen.ranks.first_use import use_gpu_early


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_gpu_that_is_not_there_is_not_used(capfd: pytest.CaptureFixture[str]) -> None:
    thread = use_gpu_early(torch.cuda.device_count())
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert capfd.readouterr() == ("", "")
