"""R2Gen's search by Optuna (an extra), where Hydra accepts it; r2gen/sweeps/search.py does the work.

Hydra's own Optuna sweeper wants an Optuna before 3, which fails on a storage in a file today.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from r2gen.errors import UserError


class OptunaSweeper(Sweeper):
    """hydra/sweeper=optuna."""

    def __init__(
        self,
        *,
        params: Mapping[str, Any] | None,
        n_trials: int,
        batch: int,
        random_trials: int,
        prune_after: int | None,
        seed: int,
    ) -> None:
        self.params = {} if params is None else {str(key): found for key, found in params.items()}
        self.n_trials, self.batch, self.seed = n_trials, batch, seed
        self.random_trials, self.prune_after = random_trials, prune_after

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.base, self.loader = config, hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        # Not at the top: every run of run.py imports this file, and Hydra reads each file of the folder anew.
        from hydra_plugins.r2gen_sweeps import R2GenLauncher, check_whole
        from r2gen.sweeps.cells import compose_cell
        from r2gen.sweeps.search import Search, Space

        counts = {
            "n_trials": (self.n_trials, 1),
            "batch": (self.batch, 1),
            "random_trials": (self.random_trials, 0),
            "prune_after": (self.prune_after or 0, 0),
            "seed": (self.seed, 0),
        }
        for name, (value, least) in counts.items():
            check_whole(f"hydra.sweeper.{name}", value, least=least)
        if not isinstance(self.launcher, R2GenLauncher):
            raise UserError("hydra/launcher: only gpus and slurm give each trial of a search processes of its own")
        parser = OverridesParser.create(config_loader=self.loader)
        asked = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        space = Space.of(parser.parse_overrides(asked))
        if "task=compose" in space.fixed:
            print("\n".join(f"{name} in {found}" for name, found in space.varied.items()))
            return
        sweep = self.launcher.sweep()
        first = compose_cell([*space.fixed, *space.first()], sweep.compose)
        if first.refusal is not None and not first.skipped:
            raise UserError(first.refusal)  # a mistake in the space, that every trial would fail by
        search = Search(
            sweep.open().path,
            space,
            n_trials=self.n_trials,
            batch=self.batch,
            seed=self.seed,
            random_trials=self.random_trials,
            prune_after=self.prune_after,
        )
        search.begin(space.defaults(self.loader.load_sweep_config(self.base, space.fixed)))
        sweep.judge = search.judge
        while batch := search.next_batch():
            jobs = [job.return_value for job in self.launcher.launch(batch, initial_job_idx=search.done())]
            if not search.tell(jobs):
                break
        print(f"\n{search.result()}", flush=True)
        raise SystemExit(self.launcher.end())
