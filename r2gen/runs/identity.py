"""What makes two runs one: the configuration that decides the weights."""

import hashlib
from typing import Any

from r2gen.config.plain import canonical, without

# What changes neither weights nor scores: where, how fast, how loud.
PROCESS_ONLY = (
    "choices",
    "run_dir",
    "fresh",
    "task",
    "hub",
    "images",
    "checkpoint",
    "out",
    "sweep",
    "logger",
    "data.root",
    "data.check",
    "data.section",
    "prepare",
    "runs",
    "compare",
    "trainer.devices",
    "metrics.chexbert.path",
    "metrics.chexbert.bert",
    "metrics.radgraph.path",
    "metrics.radgraph.bert",
    "trainer.workers",
    "trainer.micro_batch_size",
    "trainer.film_cache_mib",
    "trainer.timeout_s",
    "trainer.keep",
    "trainer.save_every_steps",
    "trainer.log_every_steps",
    "trainer.resume",
    "trainer.device",
    "trainer.nodes",
    "trainer.hostfile",
    "evaluate.page_studies",
)
# What may change within one run: how long it trains, and what is evaluated.
EXTENSIBLE = ("evaluate", "trainer.epochs", "trainer.max_steps")


def identity(config: dict[str, Any], data_hash: str) -> str:
    """16 hex digits: equal for two configurations that must give the same weights at the same step."""
    kept = without(config, PROCESS_ONLY + EXTENSIBLE)
    return hashlib.sha256((canonical(kept) + data_hash).encode()).hexdigest()[:16]


def differences(stored: dict[str, Any], asked: dict[str, Any], but: tuple[str, ...]) -> list[str]:
    """`name: stored -> asked` for every leaf that differs, leaving out the names in `but`."""
    old, new = without(stored, but), without(asked, but)
    names = sorted({*old, *new})
    absent = object()
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if old.get(name, absent) != new.get(name, absent)
    ]


def _shown(leaves: dict[str, Any], name: str) -> str:
    return str(leaves[name]) if name in leaves else "(not there)"
