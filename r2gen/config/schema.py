"""The typed configuration of a run. Every option is defined once, with its type, description and bounds.

Hydra composes conf/ against these dataclasses; `read_config` (read.py) turns the result into a `Config`, which travels
to the ranks as config.yaml. Groups whose YAML has a `_target_` are a `Target`; trainer, augment, prepare and demo have
modules of their own.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from r2gen.config import prompt_pieces, task_table
from r2gen.config.augment import AugmentConfig
from r2gen.config.context import ContextConfig, GivenConfig
from r2gen.config.demo import DemoConfig
from r2gen.config.fields import option
from r2gen.config.plain import Plain
from r2gen.config.prepare_options import PrepareConfig
from r2gen.config.targets import Target
from r2gen.config.trainer import TrainerConfig


@dataclass
class PromptConfig:
    before: Any = option("before the image, after the BOS token: a text or pieces", default="")
    after: Any = option("between the image and the report", default="")
    bos: bool | None = option("begin with the BOS token; null: as the tokenizer's own files do", default=True)
    chat_template: bool | None = option(
        "use the checkpoint's chat template around lm.prompt.message; null: where it publishes one", default=False
    )
    message: str = option("the user's message in the chat template", default=prompt_pieces.MESSAGE)


@dataclass
class SpecialTokensConfig:
    """By name or id; null: as the checkpoint's files say."""

    bos: str | int | None = None
    eos: str | int | None = None
    pad: str | int | None = None


@dataclass
class ArchitectureConfig:
    """The shape of a LLaMA model with random weights."""

    hidden_size: int = option(more_than=0)
    num_hidden_layers: int = option(more_than=0)
    num_attention_heads: int = option(more_than=0)
    intermediate_size: int = option(more_than=0)
    tie_word_embeddings: bool = option("use the input embeddings as the output head", default=False)
    attention_dropout: float = option("of attention weights, in training", default=0.0, at_least=0, less_than=1)


@dataclass
class LmConfig:
    path: str | None = option("checkpoint folder or hub id; null: random weights of lm.architecture", default=None)
    revision: str | None = option("revision of a hub id", default=None)
    family: str | None = option("model_type that config.json must have; null: any supported one", default=None)
    architecture: ArchitectureConfig | None = None
    vocabulary_size: int | None = option(
        "of the tokenizer trained on the training reports where lm.path is null", default=None, at_most=1_000_000
    )
    vocabulary: str = option(
        "of that tokenizer: pieces of words (byte-level BPE), or whole words",
        default="pieces",
        choices=("pieces", "words"),
    )
    min_count: int = option(
        "lm.vocabulary=words has the words that occur at least so often in the training reports", default=3, at_least=1
    )
    dropout: float = option(
        "of the input embeddings and the last hidden states of a decoder that trains",
        default=0.0,
        at_least=0,
        less_than=1,
    )
    dtype: str = option(default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    attention: str = option(default="auto", choices=("auto", "sdpa", "eager"))
    prompt: PromptConfig = field(default_factory=PromptConfig)
    special_tokens: SpecialTokensConfig = field(default_factory=SpecialTokensConfig)
    stop: list[str] | None = option(
        "special tokens and texts that end a report; training reports end with the first special token; null: what "
        "ends an answer in the chat template",
        default=[],
    )
    lora_targets: list[str] | None = option(
        "names of the layers that tune/lm=lora adapts; null: all linear layers of the blocks", default=[]
    )
    gradient_checkpointing: bool = option("recompute activations: less memory, slower", default=False)
    compile: bool | None = option(
        "torch.compile the layers for training; null: on a GPU, if the training is long enough for it", default=None
    )
    packed: bool = option(
        "train with the studies of a micro-batch in one row without padding, on a GPU and where that is the same sum",
        default=True,
    )
    device_map: str | None = option("spread the model over all GPUs of one rank", default=None, choices=("auto",))
    generation: Plain = option("generation options that this model cannot use, each null", default={})


@dataclass
class QuantConfig:
    mode: str = option(choices=("none", "int8", "nf4", "int8_weight_only", "fp8"))
    double_quant: bool = option("for nf4: quantise the scales too", default=False)


@dataclass
class LoraConfig:
    r: int = option("rank", at_least=1)
    alpha: int = option("scale: the update is multiplied by alpha / r", at_least=1)
    dropout: float = option(at_least=0, less_than=1)


@dataclass
class TuneLmConfig:
    mode: str = option(choices=("auto", "frozen", "lora", "full"))
    lora: LoraConfig | None = None


@dataclass
class TuneConfig:
    vision: str = option(choices=("frozen", "lora", "full"))
    lora: LoraConfig | None = None
    lm: TuneLmConfig = field(default_factory=TuneLmConfig)


@dataclass
class EvaluateConfig:
    splits: list[str] = option("splits scored at the end")
    every: float = option("epochs between validations", more_than=0)
    max_studies: int | None = option("studies of val used for validations during training", more_than=0)
    batch_size: int = option("studies encoded, or decoded by transformers, at a time", more_than=0, at_most=65_536)
    slots: int | None = option(
        "studies decoded at a time; null: batch_size on the CPU, on a GPU as many as are fast and fit into its memory",
        more_than=0,
        at_most=65_536,
    )
    decoder: str = option(
        "auto: tree (one copy of the prompt for all beams) where it supports the language model and the profile",
        choices=("auto", "tree", "transformers"),
    )
    reference: str = option(
        "truncated: also score against references cut as in R2GenGPT", choices=("full", "truncated")
    )
    max_reference_tokens: int | None = option(
        "where evaluate.reference=truncated cuts, in tokens of the language model", more_than=0
    )
    best: str = option(
        "weighted scores on val; the best checkpoint has the largest. Of the default, the scores that metrics give"
    )
    page_studies: int = option(
        "studies with images in report.html, which has the texts of all; 0: no study", at_least=0
    )
    drop: list[str] = option(
        "inputs withheld from the same weights at the end: prior, indication, lateral, ...; other_prior and so on: "
        "another patient's (docs/metrics.md)",
        default=[],
    )
    likelihood_studies: int | None = option(
        "studies of a split, chosen by their ids, whose references' likelihood is computed; null: all",
        default=1000,
        more_than=0,
    )
    nearest_studies: int = option("training studies searched for the nearest-image baseline; 0 disables it", at_least=0)


@dataclass
class CompareConfig:
    """How the systems in `runs` are compared (r2gen/compare/)."""

    split: str | None = option(
        "null: test where all runs have it scored, otherwise val", choices=("test", "val", "train")
    )
    rescore: bool = option("score all reports again where the runs were scored in different ways")
    cleaner: str | None = option(
        "clean and score all texts again; null: leave them as they are", choices=("iu_xray", "mimic_cxr")
    )
    null_rows: list[str] = option("baselines, of constant, random, nearest, shuffled")
    join_seeds: bool = option("show means over runs that differ in their seed only")
    studies: int = option("studies with the largest differences that are shown; 0: none", at_least=0)
    differ_by: str | None = option("the score by which they differ; null: rouge_l")


@dataclass
class AuditConfig:
    """How many images task=audit reads (r2gen/tasks/audit.py)."""

    films: int | None = option("images of each split that are read, evenly spread; 0: none, null: all", at_least=0)


@dataclass
class Config:
    """A run, or what another task works with."""

    task: str = option(choices=tuple(task_table.BY_NAME))
    seed: int = option(at_least=0)
    run_dir: str | None = option("null: outputs/train-<experiment or lm-data>-<8 hex digits of the configuration>")
    fresh: bool = option("remove what run_dir holds and start over")
    verbose: bool = option("print the details too: intervals, signatures, the validation, the command of the ranks")
    hub: str = option("online: missing weights are downloaded", choices=("offline", "online"))
    images: list[str] = option("for task=generate: the images of one study")
    checkpoint: str | None = option("for task=import: a file that R2GenGPT saved")
    sweep: str | None = option("for task=status, task=dashboard and task=compare: the folder of a sweep")
    given: GivenConfig = option()
    studies: str | None = option("for task=predict: a folder of images, a table, or an annotation", default=None)
    out: str | None = option(
        "folder that task=export, compare or audit writes, or that task=index lists; file that task=predict writes"
    )
    runs: list[str] = option(
        "for task=compare: run folders and files of reports, each PATH or name=PATH; for task=demo: run folders"
    )
    lm: LmConfig = option()
    quant: QuantConfig = option()
    vision: Target = option()
    projector: Target = option()
    tune: TuneConfig = option()
    objective: Target = option()
    generation: Plain = option()
    data: Target = option()
    context: ContextConfig = option()
    augment: AugmentConfig = option()
    trainer: TrainerConfig = option()
    evaluate: EvaluateConfig = option()
    prepare: PrepareConfig = option()
    compare: CompareConfig = option()
    audit: AuditConfig = option()
    demo: DemoConfig = option()
    metrics: dict[str, Target] = option()
    logger: Target = option()
    choices: dict[str, str | None] = option(default={})  # the option chosen of each group

    @property
    def folder(self) -> Path:
        """The run folder of a job, which is known once it is launched."""
        assert self.run_dir is not None
        return Path(self.run_dir)

    @property
    def ranks(self) -> int:
        """On all machines."""
        return self.trainer.devices * self.trainer.nodes

    @property
    def zero_stage(self) -> int:
        return int(self.trainer.deepspeed["zero_optimization"]["stage"])


def group_of(hint: Any) -> type | None:
    """The dataclass of a group of options, from the type of its field; None for a value or a Target."""
    kinds = (kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind) and kind is not Target)
    return next(kinds, None)  # type: ignore[return-value]


def hydra_schema() -> type:
    """`Config` as Hydra merges YAML into it: a Target is a dictionary there, and the choices are Hydra's own."""
    dictionaries = (Target, dict[str, Target])
    return dataclasses.make_dataclass(
        "Schema",
        [
            (spec.name, Plain if kind in dictionaries else kind, dataclasses.field(default=spec.default))
            for spec in dataclasses.fields(Config)
            if spec.name != "choices"
            for kind in [get_type_hints(Config)[spec.name]]
        ],
    )
