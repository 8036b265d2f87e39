"""The check of a composed configuration against the schema (schema.py). Imports no torch.

Hydra merges YAML into the dataclasses of the schema, but lets `+key=` and `++key=` add what they do not know, so that
`check` walks the plain result once more. Groups that name a class (`_target_`) are checked against its signature.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING

from r2gen.config import prompt_pieces, targets
from r2gen.config.schema import Config
from r2gen.errors import UserError, shown

LARGEST = 2**31 - 1  # what every library here takes as a whole number
DEEPEST = 30
DECODING = "r2gen.config.decoding.Decoding"
# What build.py hands to a target besides its YAML.
SUPPLIED = {
    "vision": frozenset[str](),
    "projector": frozenset({"in_dim", "out_dim"}),
    "data": frozenset[str](),
    "metrics": frozenset[str](),
    "logger": frozenset[str](),
}
# The methods and attributes that the class of a group must have.
MEMBERS = {
    "vision": {"forward"},
    "projector": {"forward"},
    "data": {"studies", "image", "section", "cleaner", "check", "splits", "digest"},
    "metrics": {"name", "scores", "weights", "__call__", "sums"},
    "logger": {"start", "log", "close"},
}
# Keys of trainer.deepspeed: DeepSpeed ignores unknown top-level keys silently. R2Gen's own are refused by name.
DEEPSPEED_KEYS = frozenset(
    {
        "zero_optimization",
        "communication_data_type",
        "prescale_gradients",
        "steps_per_print",
        "gradient_predivide_factor",
        "sparse_gradients",
        "wall_clock_breakdown",
        "comms_logger",
        "flops_profiler",
        "dump_state",
        "memory_breakdown",
        "zero_allow_untested_optimizer",
        "seq_parallel_communication_data_type",
        "disable_allgather",
    }
)
DEEPSPEED_OURS = {
    "train_batch_size": "trainer.batch_size",
    "train_micro_batch_size_per_gpu": "trainer.micro_batch_size",
    "gradient_accumulation_steps": "trainer.batch_size and trainer.micro_batch_size",
    "gradient_clipping": "trainer.gradient_clipping",
    "optimizer": "trainer.learning_rate and its neighbours",
    "scheduler": "trainer.schedule",
    "bf16": "trainer.precision",
    "fp16": "trainer.precision",
}


def check(config: dict[str, Any]) -> None:
    """Refuse unknown keys, missing values, values out of their choices and misspelt arguments of a `_target_`.

    `config` is the plain container of the composed configuration. Raises UserError naming the option.
    """
    _check_plain(config, "", depth=0)
    _check_fields(config, Config, "")
    check_targets({group: config[group] for group in ("vision", "projector", "data", "logger", "metrics")})
    _check_arguments(config["generation"], DECODING, "generation", frozenset())
    decoding = targets.parameters(DECODING)
    _check_names(config["lm"]["generation"], decoding, "lm.generation")
    for key, value in config["lm"]["generation"].items():
        if value is not None:
            raise UserError(
                f"lm.generation.{key}={shown(value)}: only null stands here (what this LM cannot do is "
                f"dropped); set generation.{key} instead"
            )
    prompt_pieces.check(config["lm"]["prompt"])
    _check_deepspeed(config["trainer"]["deepspeed"])


def check_targets(groups: dict[str, Any]) -> None:
    """Check the groups that name classes, by group: misspelt arguments and classes that are none are refused."""
    for group, node in groups.items():
        if group != "metrics":
            _check_target(node, group)
            continue
        for name, metric in node.items():
            if not isinstance(metric, dict) or "_target_" not in metric:
                raise UserError(
                    f"metrics.{name} is not among the metrics chosen: choose it with metrics=[bleu,{name}]"
                    f", or leave metrics.{name} out"
                )
            _check_target(metric, f"metrics.{name}")


def _check_plain(value: Any, name: str, *, depth: int) -> None:
    """Only what every part can take, and JSON and YAML can keep."""
    if depth > DEEPEST:
        raise UserError(f"{name[:60]}...: this is nested too deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key:
                raise UserError(f"{name}={shown(value)}: the key {key!r:.40} is no name")
            _check_plain(key, name, depth=depth)
            _check_plain(item, f"{name}.{key}" if name else key, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, name, depth=depth + 1)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
            raise UserError(f"{name}={shown(value)}: this holds a null character or half of a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{name}={value}: give a finite number")
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            raise UserError(f"{name}={shown(value)}: give a whole number up to {LARGEST:,}")
    elif value is not None:
        raise UserError(f"{name}={shown(value)}: no {type(value).__name__} can stand here: write a text, in quotes")


def _check_fields(node: Any, schema: type, path: str) -> None:
    if not isinstance(node, dict):
        raise UserError(f"{path.rstrip('.')}={shown(node)}: this is a group of options: set {path}KEY=VALUE")
    hints = get_type_hints(schema)
    _check_names(node, hints, path.rstrip("."))
    written = targets.parameters(f"{schema.__module__}.{schema.__name__}")
    for spec in fields(schema):
        value, name = node.get(spec.name, MISSING), path + spec.name
        if value == MISSING:
            raise UserError(f"{name} has no value: give {name}=...")
        choices, annotation = spec.metadata.get("choices"), written[spec.name].annotation
        if choices and value not in choices and not (value is None and targets.accepts(None, annotation)):
            raise UserError(f"{name}={shown(value)}: choose one of {', '.join(choices)}{suggest(str(value), choices)}")
        if not targets.accepts(value, annotation):
            raise UserError(f"{name}={shown(value)}: give {targets.describe(annotation)}")
        nested = [kind for kind in (hints[spec.name], *get_args(hints[spec.name])) if is_dataclass(kind)]
        if nested and (value is not None or type(None) not in get_args(hints[spec.name])):
            _check_fields(value, nested[0], name + ".")  # type: ignore[arg-type]


def _check_target(node: Any, path: str) -> None:
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(
            f"{path} needs `_target_: r2gen....`, the class that does it: choose an option of the group, "
            f"such as those `python run.py --help` lists"
        )
    group, target = path.partition(".")[0], node["_target_"]
    lacks = (MEMBERS[group] - targets.members(target, path)) | (
        SUPPLIED[group] - targets.parameters(target, path).keys()
    )
    if lacks:
        raise UserError(f"{path}: _target_={target} cannot be one: it has no {', '.join(sorted(lacks))}")
    _check_arguments({key: value for key, value in node.items() if key != "_target_"}, target, path, SUPPLIED[group])


def _check_arguments(arguments: dict[str, Any], target: str, path: str, supplied: frozenset[str]) -> None:
    known = {name: spec for name, spec in targets.parameters(target, path).items() if name not in supplied}
    _check_names(arguments, known, path)
    for name, spec in known.items():
        if name not in arguments:
            if spec.required:
                raise UserError(f"{path}.{name} has no value: {target} needs it, give {path}.{name}=...")
        elif arguments[name] == MISSING:
            raise UserError(f"{path}.{name} has no value: give {path}.{name}=...")
        elif not targets.accepts(arguments[name], spec.annotation):
            raise UserError(f"{path}.{name}={shown(arguments[name])}: give {targets.describe(spec.annotation)}")


def _check_names(node: dict[str, Any], known: Iterable[str], path: str) -> None:
    known = list(known)
    for key in node:
        if key not in known:
            name = f"{path}.{key}" if path else str(key)
            raise UserError(unknown_option(name, known))


def _check_deepspeed(node: dict[str, Any]) -> None:
    for key in node:
        if key in DEEPSPEED_OURS:
            raise UserError(f"trainer.deepspeed.{key}: R2Gen sets this itself, from {DEEPSPEED_OURS[key]}")
    _check_names(node, DEEPSPEED_KEYS, "trainer.deepspeed")
    for key, value in node.items():
        if key.endswith("communication_data_type"):
            fits, fix = value in (None, "fp32", "bf16", "fp16"), "choose one of fp32, bf16, fp16"
        elif key in ("comms_logger", "flops_profiler", "zero_optimization"):
            fits, fix = isinstance(value, dict), "give names with values, such as {enabled: true}"
        elif key in ("steps_per_print", "gradient_predivide_factor"):
            fits, fix = isinstance(value, int | float) and value > 0, "give a number above 0"
        else:
            fits, fix = isinstance(value, bool), "give true or false"
        if not fits:
            raise UserError(f"trainer.deepspeed.{key}={shown(value)}: {fix}")
    zero = node.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") not in (0, 1, 2, 3) or isinstance(zero["stage"], bool):
        raise UserError(
            f"trainer.deepspeed.zero_optimization={shown(zero)}: give it a stage of 0 to 3, as in "
            "trainer.deepspeed.zero_optimization={stage: 2}, or use trainer=zero2"
        )


def weighted_scores(text: str) -> dict[str, float]:
    """`0.5*bleu_4 + 0.5*cider` as score name to weight; a bare name weighs 1. Raises UserError where it is neither."""
    weights = {}
    for term in text.split("+"):
        weight, _, name = term.strip().rpartition("*")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            weights[""] = 0.0
    if "" in weights:
        raise UserError(f"evaluate.best={text}: write scores and weights like 0.5*bleu_4 + 0.5*cider")
    return weights


def unknown_option(name: str, known: Iterable[str]) -> str:
    """The message for a dotted option whose last word is none of `known`."""
    word = name.rpartition(".")[2]
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if near:
        return f"unknown option {name}: did you mean {name.removesuffix(word)}{near[0]}?"
    known = sorted(known)
    return f"unknown option {name}: " + (f"known here are {', '.join(known)}" if known else "nothing can be set there")


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else ""
