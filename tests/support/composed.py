"""The configuration that a command composes to, checked as run.py checks it."""

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from smallest_run import ROOT

from r2gen.config import check, rules
from r2gen.config.overrides import for_hydra
from r2gen.config.schema import Config


def composed(*overrides: str) -> dict[str, Any]:
    plain = unchecked(*overrides)
    check.check(plain)
    rules.refuse(plain)
    return plain


def unchecked(*overrides: str) -> dict[str, Any]:
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose("config", overrides=for_hydra(overrides)), resolve=True)
    return plain
