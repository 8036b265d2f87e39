"""The identity of a run: a hash of the configuration that decides its weights, and of its data."""

import hashlib

from r2gen.config import context
from r2gen.config.batch_norm import moves
from r2gen.config.metrics import weights_of
from r2gen.config.plain import Plain, canonical, without
from r2gen.config.task_table import OWNED
from r2gen.errors import shown

# What changes neither weights nor scores: where a run is, how fast it trains, what is logged.
_PROCESS = (
    "choices",
    "run_dir",
    "fresh",
    "verbose",
    "task",
    "hub",
    "logger",
    "data.root",
    "data.check",
    "data.section",
    "data.sets",  # their digests, names and weights are in the data hash
    "trainer.devices",
    "trainer.nodes",
    "trainer.hostfile",
    "trainer.device",
    "trainer.workers",
    "trainer.micro_batch_size",
    "trainer.film_cache_mib",
    "trainer.image_cache",
    "trainer.feature_cache_mib",
    "trainer.timeout_s",
    "trainer.keep",
    "trainer.save_every_steps",
    "trainer.log_every_steps",
    "trainer.resume",
    "evaluate.page_studies",
)
PROCESS_ONLY = (*_PROCESS, *OWNED)
# What may change while a run stays the same run: how long it trains, and what is evaluated.
EXTENSIBLE = ("evaluate", "trainer.epochs", "trainer.max_steps")
COMPILE = "lm.compile"
BATCH_NORM = "vision.batch_norm"
# These decide the weights only where the statistics of BatchNorm move, which are over the images of a forward pass.
_OF_MOVING_STATISTICS = ("trainer.micro_batch_size", "trainer.devices", "trainer.nodes")
# Options that came after the first runs. They do not count at these values, which change nothing.
OFF: Plain = {
    "augment.brightness": 0,
    "augment.contrast": 0,
    "augment.degrees": 0,
    "augment.scale": 0,
    "augment.shift": 0,
    "context.fields": [],
    "context.image_embeddings": False,
    "lm.architecture.attention_dropout": 0,
    "lm.architecture.tie_word_embeddings": False,
    "lm.dropout": 0,
    "lm.packed": True,
    "lm.vocabulary": "pieces",
    "objective._target_": "r2gen.train.objectives.objective.ReportLoss",
    "trainer.ema": None,
    "trainer.label_smoothing": 0,
    "trainer.learning_rate_scale.lm": 1,
    "trainer.learning_rate_scale.projector": 1,
    "trainer.learning_rate_scale.vision": 1,
    "trainer.repeat_threshold": None,
    "trainer.start": None,
}
# Options that count only where another one has this value.
ONLY_WITH = {"lm.min_count": ("lm.vocabulary", "words")}
# Version 0.1 counted the group `audit`: its runs are found under that identity too.
_COUNTED_BEFORE = "audit"


def identity(config: Plain, data_hash: str) -> str:
    """16 hex digits: equal for two configurations that must give the same weights at the same step."""
    return _hash(config, data_hash, (*PROCESS_ONLY, *EXTENSIBLE))


def earlier_identity(config: Plain, data_hash: str) -> str:
    """The identity that version 0.1 gave this configuration."""
    left_out = tuple(name for name in (*PROCESS_ONLY, *EXTENSIBLE) if name != _COUNTED_BEFORE)
    return _hash(config, data_hash, left_out)


def differences(stored: Plain, requested: Plain, but: tuple[str, ...]) -> list[str]:
    """`name: stored -> requested` for every leaf that differs, without the names in `but`."""
    but = _left_out(but, stored, requested)
    old, new = (_deciding(config, (*but, *weight_options(config))) for config in (stored, requested))
    names = sorted({*old, *new})
    absent = object()
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if old.get(name, absent) != new.get(name, absent)
    ]


def weight_options(config: Plain) -> tuple[str, ...]:
    """The options of metrics that are paths of weights: where they are does not decide what a run is."""
    metrics = config.get("metrics") or {}
    return tuple(f"metrics.{name}.{option}" for name, node in metrics.items() for option in weights_of(node))


def _hash(config: Plain, data_hash: str, left_out: tuple[str, ...]) -> str:
    deciding = _deciding(config, (*_left_out(left_out, config), *weight_options(config)))
    return hashlib.sha256((canonical(deciding) + data_hash).encode()).hexdigest()[:16]


def _left_out(names: tuple[str, ...], *configs: Plain) -> tuple[str, ...]:
    """The names without those that count because BatchNorm statistics move in all configurations."""
    return tuple(name for name in names if name not in _OF_MOVING_STATISTICS or not all(map(moves, configs)))


def _deciding(config: Plain, left_out: tuple[str, ...]) -> Plain:
    """The options that count, so that runs from before an option existed keep their identity.

    lm.compile=null counts as false, which was the default of earlier runs, and vision.batch_norm only where the
    statistics move: they never did.
    """
    leaves = context.counted(without(config, left_out))
    for name, (other, value) in ONLY_WITH.items():
        if leaves.get(other) != value:
            leaves.pop(name, None)
    leaves = {name: value for name, value in leaves.items() if name not in OFF or value != OFF[name]}
    if leaves.get(COMPILE, False) is None:
        leaves[COMPILE] = False
    leaves.pop(BATCH_NORM, None)
    if moves(config):
        leaves[BATCH_NORM] = "moving"
    return leaves


def _shown(leaves: Plain, name: str) -> str:
    values = {**OFF, BATCH_NORM: "frozen", **leaves}
    return shown(values[name]) if name in values else "(missing)"
