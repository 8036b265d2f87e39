"""The typed schema of a run: every key of the common groups, its type and its choices. Imports no torch."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from r2gen.config import prompt_pieces


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

    bos: str | int | None = None
    eos: str | int | None = None
    pad: str | int | None = None


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
    devices: int = MISSING  # ranks, on each machine
    nodes: int = MISSING  # machines
    hostfile: str | None = None  # lines HOST slots=GPUS, for more than one machine without SLURM
    workers: int = MISSING  # data processes a rank
    film_cache_mib: int = MISSING  # resized images kept in memory, a data process
    save_every_steps: int | None = MISSING  # checkpoints between validations; null: at validations only
    keep: int = MISSING  # checkpoints kept besides the best
    resume: str = one_of("auto", "weights")
    shuffle: bool = MISSING  # false: studies in the data set's order, every epoch
    train_share: float = MISSING  # of the training studies; a larger share holds all of a smaller one
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
    nearest_studies: int = MISSING  # of training, looked through for the null row of the nearest images; 0: no row


@dataclass
class PrepareConfig:
    """What of a raw data set becomes an annotation (r2gen/data/mimic.py)."""

    sections: str = one_of("findings", "impression", "findings+impression", "findings_else_impression")
    without_headings: str = one_of("drop", "last_paragraph")  # reports with neither findings nor impression
    views: str = one_of("frontal", "lateral", "frontal+lateral", "all")  # images by ViewPosition
    entries: str = one_of("study", "film")  # one entry a study with all its images, or one an image (R2Gen's)
    reports: str | None = MISSING  # the folder with p10/p10000032/s50414267.txt; null: beside the images
    partial: bool = MISSING  # true: leave out what is not on disk, instead of refusing


@dataclass
class CompareConfig:
    """How the systems in `runs` are compared (r2gen/compare/)."""

    split: str | None = one_of("test", "val", "train")
    rescore: bool = MISSING  # true: score all reports anew, where runs were scored in different ways
    cleaner: str | None = one_of("iu_xray", "mimic_cxr")  # cleans and scores all texts anew; null: as they are
    null_rows: list[str] = MISSING  # of constant, random, nearest, shuffled
    join_seeds: bool = MISSING  # false: no means over runs that differ in their seed alone
    studies: int = MISSING  # how many of the studies that differ most are shown; 0: none
    differ_by: str | None = MISSING  # the score by which they differ; null: rouge_l


@dataclass
class AuditConfig:
    """How closely task=audit looks (r2gen/data/audit.py)."""

    films: int | None = MISSING  # of a split, evenly spread; 0: none, null: all


@dataclass
class Config:
    task: str = one_of(
        "train",
        "evaluate",
        "generate",
        "check",
        "import",
        "export",
        "prepare",
        "compose",
        "status",
        "compare",
        "audit",
        "dashboard",
    )
    seed: int = MISSING
    run_dir: str | None = MISSING  # null: outputs/<task>-<experiment or lm-data>-<8 hex>
    fresh: bool = MISSING
    hub: str = one_of("offline", "online")
    images: list[str] = MISSING  # images of one study, for task=generate
    checkpoint: str | None = MISSING  # R2GenGPT's file, for task=import
    sweep: str | None = MISSING  # the folder of a sweep, for task=status and task=dashboard
    out: str | None = MISSING  # the folder that task=export, compare or audit writes
    runs: list[str] = MISSING  # run folders and files of reports, for task=compare
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
    compare: CompareConfig = MISSING
    audit: AuditConfig = MISSING
    metrics: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
