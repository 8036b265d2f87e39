"""Compose conf/ with overrides: the only call of Hydra's composition outside the command itself."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from r2gen.config.hydra_bounds import bound_hydra
from r2gen.config.overrides import for_hydra
from r2gen.config.plain import Plain
from r2gen.config.root import CONF
from r2gen.config.schema import hydra_schema
from r2gen.config.yaml_files import use_yaml_files


@dataclass(frozen=True)
class Composed:
    """A resolved configuration before any check, and the option chosen of each group."""

    plain: Plain
    choices: dict[str, str | None]


def compose(overrides: Iterable[str]) -> Composed:
    """The configuration of `python run.py` with these overrides.

    Inside run.py its own Hydra composes, which knows a --config-dir. Elsewhere conf/ of this checkout is read, and a
    Hydra application around it is left as it was. Raises what Hydra and OmegaConf raise.
    """
    with _our_hydra():
        return without_hydra(hydra.compose("config", overrides=for_hydra(overrides), return_hydra_config=True))


def without_hydra(composed: DictConfig) -> Composed:
    """What Hydra composed with its own node `hydra`, which is taken out."""
    chosen = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    return resolved(composed, chosen)


def resolved(composed: DictConfig, chosen: Mapping[str, str | None]) -> Composed:
    """What Hydra composed as plain values; `chosen` is `hydra.runtime.choices`."""
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    return Composed(plain, our_choices(chosen))


def our_choices(chosen: Mapping[str, str | None]) -> dict[str, str | None]:
    """The option chosen of each of our groups, from `hydra.runtime.choices`."""
    return {group: choice for group, choice in chosen.items() if group.partition("/")[0] != "hydra"}


def prepare_hydra() -> None:
    """Make Hydra check YAML against the schema, which conf/config.yaml names first, and read files within bounds."""
    ConfigStore.instance().store(name="schema", node=hydra_schema())
    use_yaml_files()
    bound_hydra()


@contextmanager
def _our_hydra() -> Iterator[None]:
    outer = GlobalHydra.instance().hydra
    if outer is not None and any(entry.path == CONF.as_uri() for entry in _search_path(outer)):
        yield
        return
    GlobalHydra.instance().clear()
    prepare_hydra()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _search_path(application: Any) -> Any:
    return application.config_loader.get_search_path().get_path()
