"""Which choices go together, checked on the configuration before any weight is read.

A rule is a sentence that says what is wrong and what to pass instead, and a test that is true where the choices do not
go together.
"""

from collections.abc import Callable, Mapping

from r2gen.config import context, drop, lm_rules, selection, targets, task_table
from r2gen.config.decoding import Decoding
from r2gen.config.plain import Plain
from r2gen.config.schema import ArchitectureConfig, Config
from r2gen.errors import Code, UserError

RULES: list[tuple[str, Callable[[Config], bool]]] = [
    (
        "lm=auto reads any checkpoint: add lm.path=FOLDER, or a hub id as lm.path=OWNER/NAME",
        lambda c: c.choices.get("lm") == "auto" and c.lm.path is None,
    ),
    (
        "lm.path and lm.architecture are both null: give a checkpoint folder, or the shape of random weights",
        lambda c: c.lm.path is None and c.lm.architecture is None,
    ),
    (
        "lm.architecture draws random weights, lm.path reads a checkpoint: set one of them to null",
        lambda c: c.lm.path is not None and c.lm.architecture is not None,
    ),
    (
        "a tokenizer is trained for random weights only: set lm.vocabulary_size with lm.architecture, and not with "
        "lm.path",
        lambda c: (c.lm.vocabulary_size is None) != (c.lm.architecture is None),
    ),
    (
        "lm.vocabulary=words is for random weights: a checkpoint at lm.path has a vocabulary of its own",
        lambda c: c.lm.vocabulary == "words" and c.lm.path is not None,
    ),
    (
        "lm.dropout is for a language model that trains: use tune/lm=lora or tune/lm=full, or lm.dropout=0",
        lambda c: c.lm.dropout > 0 and c.lm.path is not None and c.tune.lm.mode in ("auto", "frozen"),
    ),
    (
        "trainer.ema averages weights in memory: it does not work with trainer.deepspeed's offload_optimizer to nvme",
        lambda c: (
            c.trainer.ema is not None
            and (c.trainer.deepspeed["zero_optimization"].get("offload_optimizer") or {}).get("device") == "nvme"
        ),
    ),
    (
        "quant=int8, nf4, int8_weight_only and fp8 quantise a checkpoint, and random weights are trained in full: "
        "give lm.path, or use quant=none",
        lambda c: c.quant.mode != "none" and c.lm.path is None,
    ),
    (
        "quant.double_quant is for quant=nf4",
        lambda c: c.quant.double_quant and c.quant.mode != "nf4",
    ),
    (
        "lm.dtype=float16 and bfloat16 are for frozen weights, which LoRA may adapt: with tune/lm=full or random "
        "weights use lm.dtype=auto and trainer.precision=bf16, which keeps fp32 masters",
        lambda c: (
            c.lm.dtype in ("float16", "bfloat16")
            and (c.tune.lm.mode == "full" or (c.lm.path is None and c.tune.lm.mode == "auto"))
        ),
    ),
    (
        "lm.device_map=auto spreads one frozen checkpoint over the GPUs: it needs lm.path, trainer.devices=1 and "
        "tune/lm=frozen (or auto)",
        lambda c: (
            c.lm.device_map is not None
            and (c.lm.path is None or c.ranks != 1 or c.tune.lm.mode not in ("auto", "frozen"))
        ),
    ),
    (
        "tune/lm=lora needs lm.lora_targets, the names of the layers it adapts",
        lambda c: c.tune.lm.mode == "lora" and c.lm.lora_targets == [],
    ),
    (
        "tune=delta needs vision.lora_targets, the names of the layers it adapts: use tune=shallow or tune=deep",
        lambda c: c.tune.vision == "lora" and not c.vision.get("lora_targets"),
    ),
    (
        "vision.batch_norm=moving is for an encoder that trains in full: use tune=deep, or vision.batch_norm=frozen",
        lambda c: c.vision.get("batch_norm") == "moving" and c.tune.vision != "full",
    ),
    (
        "vision.drop_path is the rate at which blocks are skipped: give a number of at least 0 and below 1",
        lambda c: not 0 <= (c.vision.get("drop_path") or 0) < 1,
    ),
    (
        "metrics.phantom_findings reads the phantom's own wording: with another data set use ~metrics.phantom_findings",
        lambda c: "phantom_findings" in c.metrics and not targets.class_constant(c.data.name, "phantom_wording"),
    ),
    (
        "metrics.phantom_story reads the wording of data=phantom_story: with another data set use "
        "~metrics.phantom_story",
        lambda c: "phantom_story" in c.metrics and not targets.class_constant(c.data.name, "story_wording"),
    ),
    (
        "trainer.batch_size must be a multiple of trainer.micro_batch_size times trainer.devices times "
        "trainer.nodes (accumulation is derived and must be whole)",
        lambda c: c.task in ("train", "check") and c.trainer.batch_size % (c.trainer.micro_batch_size * c.ranks) != 0,
    ),
    (
        "objective=scst improves the reports of a trained run: add trainer.start=RUN_DIR (and a low "
        "trainer.learning_rate, such as 2e-5)",
        lambda c: (
            c.task == "train"
            and bool(targets.class_constant(c.objective.name, "generates"))
            and c.trainer.start is None
        ),
    ),
    (
        "objective=findings and objective=align train the encoder: use tune=deep or tune=delta",
        lambda c: (
            c.task == "train"
            and c.tune.vision == "frozen"
            and (c.choices.get("objective") == "findings" or encoder_only(c))
        ),
    ),
    (
        "objective=align compares the studies of a micro-batch: give trainer.micro_batch_size=2 or more (as many as "
        "fit into memory)",
        lambda c: c.task == "train" and encoder_only(c) and c.trainer.micro_batch_size < 2,
    ),
    (
        "objective=align trains the encoder alone, which reads no context: use context=none",
        lambda c: c.task == "train" and encoder_only(c) and c.context.is_used,
    ),
    (
        "data=csv is for task=prepare: train on the annotation that it writes with data=own data.root=FOLDER",
        lambda c: c.choices.get("data") == "csv" and c.task != "prepare" and c.data.get("root") is None,
    ),
    (
        "metrics is empty: name at least one, as in metrics=[bleu,cider]",
        lambda c: not c.metrics,
    ),
    (
        "run_dir, trainer.start, trainer.image_cache, out, studies, checkpoint, images, given.prior_images, data.root, "
        "lm.path and vision.path name files or folders, or are null: they cannot be empty",
        lambda c: (
            ""
            in (
                c.run_dir,
                c.trainer.start,
                c.trainer.image_cache,
                c.out,
                c.studies,
                c.checkpoint,
                *c.images,
                *c.given.prior_images,
            )
            or "" in (c.data.get("root"), c.lm.path, c.vision.get("path"))
        ),
    ),
    (
        "lm.stop holds an empty text, at which every report would end: take it out",
        lambda c: "" in (c.lm.stop or []),
    ),
    (
        "lm.architecture.hidden_size must be a multiple of twice lm.architecture.num_attention_heads (rotary positions "
        "turn pairs)",
        lambda c: (
            c.lm.architecture is not None
            and c.lm.architecture.hidden_size % (2 * c.lm.architecture.num_attention_heads) != 0
        ),
    ),
    (
        "tune/lm=lora and tune=delta set r, alpha and dropout: choose them instead of tune.lm.mode=lora or "
        "tune.vision=lora",
        lambda c: (
            (c.tune.vision == "lora" and c.tune.lora is None) or (c.tune.lm.mode == "lora" and c.tune.lm.lora is None)
        ),
    ),
    (
        "task=generate needs images: images=[frontal.png,lateral.png]",
        lambda c: c.task == "generate" and not c.images,
    ),
    (
        "task=predict needs studies=FOLDER (or a table, or an annotation.json) and out=reports.csv (or .jsonl)",
        lambda c: c.task == "predict" and (c.studies is None or c.out is None),
    ),
    (
        "evaluate.splits is empty: name val, test or both",
        lambda c: not c.evaluate.splits,
    ),
    (
        "evaluate.splits may name train, val and test, each once",
        lambda c: (
            len(set(c.evaluate.splits)) != len(c.evaluate.splits)
            or not set(c.evaluate.splits) <= {"train", "val", "test"}
        ),
    ),
    (
        "evaluate.reference=truncated needs evaluate.max_reference_tokens: R2GenGPT cuts at 60 on IU X-Ray, 100 on "
        "MIMIC-CXR (compat=r2gengpt takes it from experiment=r2gengpt_...)",
        lambda c: c.evaluate.reference == "truncated" and c.evaluate.max_reference_tokens is None,
    ),
]
LARGEST_RANDOM = 100e9  # parameters of a model with random weights


def check(config: Config) -> None:
    """Raise UserError with the sentence of the first rule that the configuration breaks."""
    if isinstance(config.data.get("seed"), int) and config.data.get("seed") < 0:
        raise UserError(f"data.seed={config.data.get('seed')} must not be negative")
    if config.lm.architecture is not None:
        _check_architecture(config.lm.architecture)
    if len(config.trainer.betas) != 2 or not all(0 <= beta < 1 for beta in config.trainer.betas):
        raise UserError(f"trainer.betas={config.trainer.betas}: give two numbers of at least 0 and below 1")
    _check_task(config)
    for sentence, broken in RULES:
        if broken(config):
            raise UserError(sentence, code=Code.INCOMPATIBLE)
    context.check(config.context)
    drop.check(config.evaluate.drop, config.context)
    lm_rules.check_options(config)
    _check_decoding(config)
    if config.task != "compare":  # which chooses no checkpoint
        selection.check(config)


def findings_in_prompt(config: Config) -> bool:
    """Whether the prompt says which findings the images show."""
    return config.objective.get("threshold") is not None


def encoder_only(config: Config) -> bool:
    """Whether the objective trains the encoder alone, so that no report is generated and scored."""
    return bool(targets.class_constant(config.objective.name, "encoder_only"))


def dropped_keys(config: Config) -> set[str]:
    """The keys of the decoding profile that this language model cannot use (nulls in lm.generation)."""
    return set(config.generation) & set(config.lm.generation)


def usable_profile(config: Config) -> Plain:
    """The decoding profile without the keys that this language model cannot use."""
    return {key: value for key, value in config.generation.items() if key not in config.lm.generation}


def _check_task(config: Config) -> None:
    """Refuse options of other tasks."""
    values: Mapping[str, object] = {
        "checkpoint": config.checkpoint,
        "out": config.out,
        "images": config.images,
        "sweep": config.sweep,
        "studies": config.studies,
        "given": any(value not in (None, []) for value in vars(config.given).values()),
    }
    for option, value in values.items():
        if value and config.task not in task_table.owners(option):
            raise UserError(
                f"{option} is for {task_table.named_owners(option)}: it changes nothing with task={config.task}"
            )


def _check_architecture(shape: ArchitectureConfig) -> None:
    weights = shape.num_hidden_layers * shape.hidden_size * (4 * shape.hidden_size + 3 * shape.intermediate_size)
    if weights > LARGEST_RANDOM or shape.num_hidden_layers > shape.hidden_size * 100:
        raise UserError(
            f"lm.architecture={vars(shape)}: {weights / 1e9:,.0f} billion weights in {shape.num_hidden_layers:,} "
            "layers are too many to draw at random here: give a smaller shape"
        )


def _check_decoding(config: Config) -> None:
    dropped = sorted(dropped_keys(config))
    lm, generation = (f"conf/{group}/{config.choices.get(group, '*')}.yaml" for group in ("lm", "generation"))
    if "max_new_tokens" in dropped:
        raise UserError(f"{lm}: lm.generation drops max_new_tokens, without which no report ends: take it out there")
    try:
        Decoding(**usable_profile(config))
    except UserError as error:
        if not dropped:
            raise
        raise UserError(
            f"{generation} needs what {lm} cannot do (lm.generation drops {', '.join(dropped)}); "
            f"what is left is not valid: {error}",
            code=Code.INCOMPATIBLE,
        ) from error
