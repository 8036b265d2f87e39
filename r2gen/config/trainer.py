"""The options of the group trainer: optimiser, schedule, precision, ranks, checkpoints."""

from dataclasses import dataclass, field

from r2gen.config.fields import option
from r2gen.config.plain import Plain


@dataclass
class LearningRateScale:
    """What trainer.learning_rate is multiplied by, for each part of the model."""

    vision: float = option(default=1.0, at_least=0)
    projector: float = option(default=1.0, at_least=0)
    lm: float = option(default=1.0, at_least=0)


@dataclass
class TrainerConfig:
    epochs: float = option(more_than=0, at_most=1_000_000)
    max_steps: int | None = option("stop after this many steps if that is before the epochs end", more_than=0)
    batch_size: int = option("studies per optimiser step, over all ranks", more_than=0, at_most=1_048_576)
    micro_batch_size: int = option("studies per forward pass of one rank", more_than=0)
    learning_rate: float = option(more_than=0)
    min_learning_rate: float = option("where the schedule ends", at_least=0)
    learning_rate_scale: LearningRateScale = field(default_factory=LearningRateScale)
    warmup_steps: int = option(at_least=0)
    schedule: str = option(choices=("cosine", "cosine_per_epoch", "constant"))
    weight_decay: float = option(at_least=0)
    weight_decay_on: str = option("all includes biases and norms", choices=("matrices", "all"))
    betas: list[float] = option("of AdamW")
    label_smoothing: float = option(
        "of the training loss: the share of the target probability that is spread over all tokens",
        default=0.0,
        at_least=0,
        less_than=1,
    )
    ema: float | None = option(
        "decay of a moving average of the weights, which is validated, tested and exported; null: no average",
        default=None,
        at_least=0,
        less_than=1,
    )
    gradient_clipping: float = option("largest gradient norm; 0: no clipping", at_least=0)
    patience: int | None = option("stop after this many validations without a better score; null: never", more_than=0)
    precision: str = option("auto: bf16 on a GPU, fp32 on the CPU", choices=("auto", "fp32", "bf16"))
    device: str = option(choices=("auto", "cpu", "cuda"))
    devices: int = option("ranks per machine", more_than=0, at_most=64)
    nodes: int = option("machines", more_than=0)
    hostfile: str | None = option("lines HOST slots=GPUS, for several machines without SLURM", default=None)
    workers: int | None = option(
        "data loading processes per rank; null: none on the CPU, up to 8 on a GPU", at_least=0, at_most=256
    )
    film_cache_mib: int = option("memory for resized images, per data loading process", at_least=0)
    image_cache: str | None = option(
        "a folder on disk for resized images, by the content of their files (docs/data.md); null: none", default=None
    )
    feature_cache_mib: int = option(
        "memory for the features of a frozen encoder, cached if those of all training images fit; 0: never",
        default=2048,
        at_least=0,
    )
    save_every_steps: int | None = option(
        "save checkpoints between validations; null: at validations only", more_than=0
    )
    keep: int = option("checkpoints kept besides the best", more_than=0)
    resume: str = option(
        "weights: continue from the weights alone, with a new optimiser state", choices=("auto", "weights")
    )
    start: str | None = option("a run folder whose best weights this training starts from", default=None)
    shuffle: bool = option("false: the data set's order in every epoch")
    train_share: float = option(
        "share of the training studies; a larger share includes a smaller one", more_than=0, at_most=1
    )
    repeat_threshold: float | None = option(
        "draw studies with a finding that is rarer than this share of the training reports more often (repeat factor "
        "sampling); null: each once per epoch",
        default=None,
        more_than=0,
        at_most=1,
    )
    max_report_tokens: int | None = option(
        "cut training reports at this length, EOS token included; null: never", more_than=0
    )
    log_every_steps: int = option(more_than=0)
    timeout_s: int = option("seconds that a rank waits for the others", more_than=0)
    deepspeed: Plain = option("options passed to DeepSpeed")
