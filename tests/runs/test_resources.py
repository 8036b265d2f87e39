"""Out of memory: the message names the option to lower, the code names the phase."""

import pytest
import torch
from composed import composed

from r2gen.runs.phase import Phase, current_phase, in_phase
from r2gen.runs.resources import out_of_memory, out_of_resources

CONFIG = composed(
    "run_dir=/run",
    "evaluate.batch_size=6",
    "trainer.batch_size=24",
    "trainer.micro_batch_size=12",
    "trainer.workers=2",
    "trainer.film_cache_mib=64",
)


@pytest.mark.parametrize(
    ("phase", "code", "message"),
    [
        (
            Phase.TRAINING,
            "memory.training",
            "out of memory in a training step. Pass trainer.micro_batch_size=6 (now 12; a step still uses",
        ),
        (
            Phase.GENERATION,
            "memory.generation",
            "out of memory while reports were generated. Pass evaluate.batch_size=3 (now 6; scores",
        ),
        (
            Phase.BUILD,
            "memory.build",
            "out of memory while the model was built. Use a quantised language model (quant=",
        ),
    ],
)
def test_out_of_memory_names_the_option_to_lower(phase: Phase, code: str, message: str):
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    error = out_of_resources(raised.value, CONFIG, phase)
    assert error is not None
    assert str(error).startswith(message)
    assert error.code == code


def test_out_of_memory_names_the_kind_of_memory():
    of_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert str(out_of_memory(of_gpu, CONFIG, Phase.TRAINING)).startswith("out of GPU memory in a training step")
    worker = out_of_memory(RuntimeError("DataLoader worker (pid 7) is killed"), CONFIG, Phase.TRAINING)
    assert worker is not None
    assert "Lower trainer.workers (now 2)" in str(worker)
    assert worker.code == "memory.workers"
    assert out_of_resources(RuntimeError("shapes do not match"), CONFIG, Phase.TRAINING) is None


def test_an_error_is_reported_with_the_phase_in_which_it_was_raised():
    @in_phase(Phase.TRAINING)
    def train() -> None:
        with in_phase(Phase.GENERATION):
            assert current_phase() is Phase.GENERATION
        assert current_phase() is Phase.TRAINING
        raise MemoryError

    before = current_phase()  # a test that raised in a phase has left it
    with in_phase(Phase.BUILD):
        with pytest.raises(MemoryError):
            train()
        assert current_phase() is Phase.TRAINING
    assert current_phase() is before
