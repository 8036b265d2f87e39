"""A lack of memory is answered with the option to lower."""

import torch
from composed import composed

from r2gen.runs.resources import memory_ran_out, ran_out

CONFIG = composed(
    "run_dir=/run",
    "evaluate.batch_size=6",
    "trainer.batch_size=24",
    "trainer.micro_batch_size=12",
    "trainer.workers=2",
    "trainer.film_cache_mib=64",
)


def test_memory_that_runs_out_is_answered_with_the_option_to_halve():
    def raised(file: str) -> BaseException:
        """A real allocation that fails, in code of that name."""
        try:
            exec(compile("import torch; torch.empty(2**60)", f"/site/r2gen/{file}", "exec"))
        except RuntimeError as error:
            return error
        raise AssertionError

    said = ran_out(raised("train/fit.py"), CONFIG)
    assert said is not None
    assert said.startswith("memory ran out in a training step: type trainer.micro_batch_size=6 (now 12; a step still")
    said = ran_out(raised("evaluate/generate.py"), CONFIG)
    assert said is not None
    assert "type evaluate.batch_size=3 (now 6" in said
    assert "quant=nf4" in str(ran_out(raised("lm/load.py"), CONFIG))
    of_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert str(memory_ran_out(of_gpu, CONFIG)).startswith("the GPU's memory ran out")
    worker = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert "lower trainer.workers (now 2)" in str(memory_ran_out(worker, CONFIG))
    assert ran_out(RuntimeError("shapes do not match"), CONFIG) is None
