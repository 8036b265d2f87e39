"""The typed schema of a run, and the check of a composed configuration against it. Imports no torch.

Hydra merges YAML into these dataclasses, but lets `+key=` and `++key=` add what the schema does not know; `check`
therefore walks the plain result once more. Groups that name a class (`_target_`) are checked against its signature.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING

from r2gen import targets
from r2gen.errors import UserError
from r2gen.lm import prompt_pieces

DECODING = "r2gen.lm.decoding_profile.Decoding"
# What build.py hands to a target besides its YAML.
SUPPLIED = {"vision": frozenset[str](), "projector": frozenset({"in_dim", "out_dim"}), "data": frozenset[str](),
            "metrics": frozenset[str](), "logger": frozenset[str]()}  # fmt: skip
# Keys of trainer.deepspeed: DeepSpeed ignores unknown top-level keys silently. R2Gen's own are refused by name.
DEEPSPEED_KEYS = frozenset({"zero_optimization", "communication_data_type", "prescale_gradients", "steps_per_print",
                            "gradient_predivide_factor", "sparse_gradients", "wall_clock_breakdown", "comms_logger",
                            "flops_profiler", "dump_state", "memory_breakdown", "zero_allow_untested_optimizer",
                            "seq_parallel_communication_data_type", "disable_allgather"})  # fmt: skip
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


def one_of(*choices: str) -> Any:
    return field(default=MISSING, metadata={"choices": choices})


@dataclass
class PromptConfig:
    before: Any = ""  # between the beginning sign and the image: a text, or pieces (r2gen/lm/prompt_pieces.py)
    after: Any = ""  # between the image and the report
    bos: bool = True
    chat_template: bool = False  # true: what the checkpoint publishes, around `message`
    message: str = prompt_pieces.MESSAGE


@dataclass
class SpecialTokensConfig:
    """By name or number; null: as the checkpoint's files say."""

    bos: Any = None
    eos: Any = None
    pad: Any = None


@dataclass
class ArchitectureConfig:
    """LLaMA's shape where the weights are drawn at random."""

    hidden_size: int = MISSING
    num_hidden_layers: int = MISSING
    num_attention_heads: int = MISSING
    intermediate_size: int = MISSING


@dataclass
class LmConfig:
    path: str | None = None  # folder or hub id; null: random weights of `architecture`
    revision: str | None = None
    family: str | None = None  # model_type that the checkpoint's config.json must have; null: any supported one
    architecture: ArchitectureConfig | None = None
    vocabulary_size: int | None = None  # of the tokenizer trained on the training reports, where there is no path
    dtype: str = field(default="auto", metadata={"choices": ("auto", "float32", "bfloat16", "float16")})
    attention: str = field(default="auto", metadata={"choices": ("auto", "sdpa", "eager")})
    prompt: PromptConfig = field(default_factory=PromptConfig)
    special_tokens: SpecialTokensConfig = field(default_factory=SpecialTokensConfig)
    stop: list[str] = field(default_factory=list)  # special tokens, the first ends a report in training, and texts
    lora_targets: list[str] = field(default_factory=list)
    gradient_checkpointing: bool = False
    compile: bool = False  # torch.compile for training; reports are written without it
    device_map: str | None = field(default=None, metadata={"choices": ("auto",)})  # auto: over all GPUs
    generation: dict[str, Any] = field(default_factory=dict)  # a null drops what this LM cannot do


@dataclass
class QuantConfig:
    mode: str = one_of("none", "int8", "nf4", "int8_weight_only")
    double_quant: bool = False  # nf4: the scales are quantised too


@dataclass
class LoraConfig:
    r: int = MISSING
    alpha: int = MISSING
    dropout: float = MISSING


@dataclass
class TuneLmConfig:
    mode: str = one_of("auto", "frozen", "lora", "full")
    lora: LoraConfig | None = None


@dataclass
class TuneConfig:
    vision: str = one_of("frozen", "lora", "full")
    lora: LoraConfig | None = None
    lm: TuneLmConfig = field(default_factory=TuneLmConfig)


@dataclass
class TrainerConfig:
    epochs: float = MISSING
    max_steps: int | None = MISSING  # ends earlier than epochs where it is smaller
    batch_size: int = MISSING  # studies an optimiser step sees, over all ranks
    micro_batch_size: int = MISSING  # studies one rank holds at once
    learning_rate: float = MISSING
    min_learning_rate: float = MISSING
    warmup_steps: int = MISSING
    schedule: str = one_of("cosine", "cosine_per_epoch", "constant")
    weight_decay: float = MISSING
    weight_decay_on: str = one_of("matrices", "all")  # all: biases and norms too
    betas: list[float] = MISSING
    gradient_clipping: float = MISSING  # 0: none
    patience: int | None = MISSING  # validations without a better score before training stops; null: never
    precision: str = one_of("auto", "fp32", "bf16")  # auto: bf16 on a GPU, fp32 on the CPU
    device: str = one_of("auto", "cpu", "cuda")
    devices: int = MISSING  # ranks
    workers: int = MISSING  # data processes a rank
    film_cache_mib: int = MISSING  # resized films kept in memory, a data process
    save_every_steps: int | None = MISSING  # checkpoints between validations; null: at validations only
    keep: int = MISSING  # checkpoints kept besides the best
    resume: str = one_of("auto", "weights")
    shuffle: bool = MISSING  # false: studies in the data set's order, every epoch
    max_report_tokens: int | None = MISSING  # training reports are cut there, end sign included; null: never
    log_every_steps: int = MISSING
    timeout_s: int = MISSING  # how long a rank waits for the others
    deepspeed: dict[str, Any] = MISSING


@dataclass
class EvaluateConfig:
    splits: list[str] = MISSING
    every: float = MISSING  # epochs between validations
    max_studies: int | None = MISSING  # of val, for the validations during training
    batch_size: int = MISSING
    reference: str = one_of("full", "truncated")  # truncated: scores against cut references stand beside the full ones
    max_reference_tokens: int | None = MISSING  # where evaluate.reference=truncated cuts, in tokens of the LM
    best: str = MISSING  # weighted scores, such as 0.5*bleu_4 + 0.5*cider; the best checkpoint has the largest on val
    page_studies: int = MISSING  # studies shown in report.html
    nearest_studies: int = MISSING  # of training, looked through for the null row of the nearest films; 0: no row


@dataclass
class PrepareConfig:
    """What of a raw data set becomes an annotation (r2gen/data/mimic.py)."""

    sections: str = one_of("findings", "impression", "findings+impression", "findings_else_impression")
    without_headings: str = one_of("drop", "last_paragraph")  # reports with neither findings nor impression
    views: str = one_of("frontal", "lateral", "frontal+lateral", "all")  # films by ViewPosition
    entries: str = one_of("study", "film")  # one entry a study with all its films, or one a film (R2Gen's)
    reports: str | None = MISSING  # the folder with p10/p10000032/s50414267.txt; null: beside the films
    partial: bool = MISSING  # true: leave out what is not on disk, instead of refusing


@dataclass
class Config:
    task: str = one_of("train", "evaluate", "generate", "check", "import", "export", "prepare")
    seed: int = MISSING
    run_dir: str | None = MISSING  # null: outputs/<task>-<experiment or lm-data>-<8 hex>
    fresh: bool = MISSING
    hub: str = one_of("offline", "online")
    images: list[str] = MISSING  # films of one study, for task=generate
    checkpoint: str | None = MISSING  # R2GenGPT's file, for task=import
    out: str | None = MISSING  # the folder that task=export writes; null: run_dir/export
    lm: LmConfig = MISSING
    quant: QuantConfig = MISSING
    vision: dict[str, Any] = MISSING
    projector: dict[str, Any] = MISSING
    tune: TuneConfig = MISSING
    generation: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING
    evaluate: EvaluateConfig = MISSING
    prepare: PrepareConfig = MISSING
    metrics: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING


def check(config: dict[str, Any]) -> None:
    """Refuse unknown keys, missing values, values out of their choices and misspelt arguments of a `_target_`.

    `config` is the plain container of the composed configuration. Raises UserError naming the option.
    """
    _check_fields(config, Config, "")
    for group in ("vision", "projector", "data", "logger"):
        _check_target(config[group], group)
    for name, metric in config["metrics"].items():
        _check_target(metric, f"metrics.{name}")
    _check_arguments(config["generation"], DECODING, "generation", frozenset())
    decoding = targets.parameters(DECODING)
    _check_names(config["lm"]["generation"], decoding, "lm.generation")
    for key, value in config["lm"]["generation"].items():
        if value is not None:
            raise UserError(f"lm.generation.{key}={value}: only null stands here (what this LM cannot do is dropped); "
                            f"set generation.{key} instead")  # fmt: skip
    prompt_pieces.check(config["lm"]["prompt"])
    _check_deepspeed(config["trainer"]["deepspeed"])


def _check_fields(node: Any, schema: type, path: str) -> None:
    if not isinstance(node, dict):
        raise UserError(f"{path.rstrip('.')}={node}: this is a group of options, not a value")
    hints = get_type_hints(schema)
    _check_names(node, hints, path.rstrip("."))
    for spec in fields(schema):
        value, name = node.get(spec.name, MISSING), path + spec.name
        if value == MISSING:
            raise UserError(f"{name} has no value: give {name}=...")
        choices = spec.metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise UserError(f"{name}={value}: choose one of {', '.join(choices)}{suggest(str(value), choices)}")
        nested = [kind for kind in (hints[spec.name], *get_args(hints[spec.name])) if is_dataclass(kind)]
        if nested and value is not None:
            _check_fields(value, nested[0], name + ".")  # type: ignore[arg-type]


def _check_target(node: Any, path: str) -> None:
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{path} needs `_target_: r2gen....`, the class that does it: choose an option of the group, "
                        f"such as those `python run.py --help` lists")  # fmt: skip
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    _check_arguments(arguments, node["_target_"], path, SUPPLIED[path.partition(".")[0]])


def _check_arguments(arguments: dict[str, Any], target: str, path: str, supplied: frozenset[str]) -> None:
    known = {name: spec for name, spec in targets.parameters(target, path).items() if name not in supplied}
    _check_names(arguments, known, path)
    for name, spec in known.items():
        if name not in arguments:
            if spec.required:
                raise UserError(f"{path}.{name} has no value: {target} needs it")
        elif arguments[name] == MISSING:
            raise UserError(f"{path}.{name} has no value: give {path}.{name}=...")
        elif not targets.accepts(arguments[name], spec.annotation):
            raise UserError(f"{path}.{name}={arguments[name]}: {target} expects {targets.describe(spec.annotation)}")


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
    return f"unknown option {name}: known here are {', '.join(sorted(known))}"


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else ""
