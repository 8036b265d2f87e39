"""task=compose: show which run a command would be, without starting it."""

from r2gen.config.schema import Config
from r2gen.errors import DONE
from r2gen.sweeps import cells


def show(config: Config, overrides: list[str]) -> int:
    """Print the folder of the run and its state; returns the exit status."""
    print(cells.state_line(cells.cell_of(config, overrides=overrides, for_hydra=overrides)))
    return DONE
