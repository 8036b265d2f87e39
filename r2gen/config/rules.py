"""Which choices go together: one sentence a row, checked on the composed configuration before any weight is read.

A row is a sentence that tells the user what is wrong and what to type instead, and a test on the plain configuration
that is true where the choices do not go together. Imports no torch.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from r2gen.config import targets
from r2gen.config.check import weighted_scores
from r2gen.config.decoding import Decoding
from r2gen.config.lm_facts import ENCODER_DECODERS
from r2gen.config.metrics import missing_weights, score_names
from r2gen.errors import Code, UserError

Config = dict[str, Any]
CUTS = ("micro_batch_size", "devices", "nodes")  # of trainer.batch_size
RULES: list[tuple[str, Callable[[Config], bool]]] = [
    (
        "lm.path and lm.architecture are both null: give a checkpoint folder, or the shape of random weights",
        lambda c: c["lm"]["path"] is None and c["lm"]["architecture"] is None,
    ),
    (
        "lm.architecture draws random weights, lm.path reads a checkpoint: set one of them to null",
        lambda c: c["lm"]["path"] is not None and c["lm"]["architecture"] is not None,
    ),
    (
        "a tokenizer is trained only for random weights, so lm.vocabulary_size stands with lm.architecture and not "
        "with lm.path",
        lambda c: (c["lm"]["vocabulary_size"] is None) != (c["lm"]["architecture"] is None),
    ),
    (
        "a quantised language model cannot be trained in full: use tune/lm=lora, tune/lm=frozen or quant=none",
        lambda c: c["quant"]["mode"] != "none" and c["tune"]["lm"]["mode"] == "full",
    ),
    (
        "quant=int8, nf4 and int8_weight_only quantise a checkpoint, and random weights are trained in full: give "
        "lm.path, or use quant=none",
        lambda c: c["quant"]["mode"] != "none" and c["lm"]["path"] is None,
    ),
    (
        "quant.double_quant is for quant=nf4",
        lambda c: c["quant"]["double_quant"] and c["quant"]["mode"] != "nf4",
    ),
    (
        "lm.dtype=float16 and bfloat16 are for frozen weights, which LoRA may adapt: with tune/lm=full or random "
        "weights use lm.dtype=auto and trainer.precision=bf16, which keeps fp32 masters",
        lambda c: (
            c["lm"]["dtype"] in ("float16", "bfloat16")
            and (c["tune"]["lm"]["mode"] == "full" or (c["lm"]["path"] is None and c["tune"]["lm"]["mode"] == "auto"))
        ),
    ),
    (
        "lm.device_map=auto spreads one frozen checkpoint over the GPUs: it needs lm.path, trainer.devices=1 and "
        "tune/lm=frozen (or auto)",
        lambda c: (
            c["lm"]["device_map"] is not None
            and (
                c["lm"]["path"] is None
                or c["trainer"]["devices"] * c["trainer"]["nodes"] != 1
                or c["tune"]["lm"]["mode"] not in ("auto", "frozen")
            )
        ),
    ),
    (
        "tune/lm=lora needs lm.lora_targets, the names of the layers it adapts",
        lambda c: c["tune"]["lm"]["mode"] == "lora" and not c["lm"]["lora_targets"],
    ),
    (
        "tune=delta needs vision.lora_targets, the names of the layers it adapts: use tune=shallow or tune=deep",
        lambda c: c["tune"]["vision"] == "lora" and not c["vision"].get("lora_targets"),
    ),
    (
        "generation.penalty_alpha (contrastive search) is for decoder-only language models, and this one is an "
        "encoder-decoder: use generation=greedy, beam3 or nucleus",
        lambda c: c["lm"]["family"] in ENCODER_DECODERS and c["generation"].get("penalty_alpha") is not None,
    ),
    (
        "metrics.phantom_findings reads the phantom's own wording: with another data set use ~metrics.phantom_findings",
        lambda c: (
            "phantom_findings" in c["metrics"] and not targets.class_constant(c["data"]["_target_"], "phantom_wording")
        ),
    ),
    (
        "trainer.batch_size must be a multiple of trainer.micro_batch_size times trainer.devices times "
        "trainer.nodes (accumulation is derived and must be whole)",
        lambda c: c["trainer"]["batch_size"] % math.prod(c["trainer"][key] for key in CUTS) != 0,
    ),
    (
        "trainer=zero3 cuts every weight into a piece a rank, which quantised, compiled or spread ones cannot be: use "
        "quant=none, lm.compile=false and lm.device_map=null, or trainer=zero2",
        lambda c: (
            c["trainer"]["deepspeed"].get("zero_optimization", {}).get("stage", 0) == 3
            and (c["quant"]["mode"] != "none" or c["lm"]["compile"] or c["lm"]["device_map"] is not None)
        ),
    ),
    (
        "trainer.train_share is a share of the training studies: more than 0, and 1 for all",
        lambda c: not 0 < c["trainer"]["train_share"] <= 1,
    ),
    (
        "metrics is empty: name at least one, as in metrics=[bleu,cider]",
        lambda c: not c["metrics"],
    ),
    (
        "run_dir, out, checkpoint, images, data.root, lm.path and vision.path name files or folders, or are null: an "
        "empty text is neither",
        lambda c: (
            "" in (c["run_dir"], c["out"], c["checkpoint"], *c["images"])
            or "" in (c["data"].get("root"), c["lm"]["path"], c["vision"].get("path"))
        ),
    ),
    (
        "lm.stop holds an empty text, at which every report would end: take it out",
        lambda c: "" in c["lm"]["stop"],
    ),
    (
        "lm.architecture.hidden_size must be a multiple of twice lm.architecture.num_attention_heads (rotary positions "
        "turn pairs)",
        lambda c: (
            c["lm"]["architecture"] is not None
            and c["lm"]["architecture"]["hidden_size"] % (2 * c["lm"]["architecture"]["num_attention_heads"]) != 0
        ),
    ),
    (
        "tune.lora and tune.lm.lora need r and alpha of at least 1, and a dropout of at least 0 and below 1",
        lambda c: any(
            lora is not None and not (lora["r"] > 0 and lora["alpha"] > 0 and 0 <= lora["dropout"] < 1)
            for lora in (c["tune"]["lora"], c["tune"]["lm"]["lora"])
        ),
    ),
    (
        "tune/lm=lora and tune=delta bring r, alpha and dropout: choose them instead of tune.lm.mode=lora or "
        "tune.vision=lora",
        lambda c: (
            (c["tune"]["vision"] == "lora" and c["tune"]["lora"] is None)
            or (c["tune"]["lm"]["mode"] == "lora" and c["tune"]["lm"]["lora"] is None)
        ),
    ),
    (
        "task=generate needs images: images=[frontal.png,lateral.png]",
        lambda c: c["task"] == "generate" and not c["images"],
    ),
    (
        "checkpoint=FILE is for task=import, out=FOLDER for task=export, compare and audit",
        lambda c: (
            (c["task"] != "import" and c["checkpoint"] is not None)
            or (c["task"] not in ("export", "compare", "audit") and c["out"] is not None)
        ),
    ),
    (
        "images=[...] is for task=generate",
        lambda c: c["task"] != "generate" and bool(c["images"]),
    ),
    (
        "task=evaluate and task=generate work on a trained run: give its folder with run_dir=DIR",
        lambda c: c["task"] in ("evaluate", "generate") and c["run_dir"] is None,
    ),
    (
        "evaluate.splits is empty: name val, test or both",
        lambda c: not c["evaluate"]["splits"],
    ),
    (
        "evaluate.splits may name train, val and test, each once",
        lambda c: (
            len(set(c["evaluate"]["splits"])) != len(c["evaluate"]["splits"])
            or not set(c["evaluate"]["splits"]) <= {"train", "val", "test"}
        ),
    ),
    (
        "evaluate.reference=truncated needs evaluate.max_reference_tokens: R2GenGPT cuts at 60 on IU X-Ray, 100 on "
        "MIMIC-CXR (compat=r2gengpt takes it from experiment=r2gengpt_...)",
        lambda c: c["evaluate"]["reference"] == "truncated" and c["evaluate"]["max_reference_tokens"] is None,
    ),
    (
        "evaluate.every must be more than 0 epochs",
        lambda c: c["evaluate"]["every"] <= 0,
    ),
]
POSITIVE = {
    "trainer": (
        "epochs",
        "batch_size",
        "micro_batch_size",
        "learning_rate",
        "devices",
        "nodes",
        "keep",
        "log_every_steps",
        "timeout_s",
        "max_steps",
        "patience",
        "save_every_steps",
        "max_report_tokens",
    ),
    "evaluate": ("batch_size", "max_studies", "max_reference_tokens"),
}
NOT_NEGATIVE = {
    "trainer": ("warmup_steps", "weight_decay", "gradient_clipping", "min_learning_rate", "workers", "film_cache_mib"),
    "evaluate": ("page_studies", "nearest_studies"),
    "compare": ("studies",),
}

# Beyond these a job would neither start nor end, which no message could follow.
AT_MOST = {
    "trainer": {"devices": 64, "workers": 256, "epochs": 1_000_000, "batch_size": 1_048_576},
    "evaluate": {"batch_size": 65_536},
    "lm": {"vocabulary_size": 1_000_000},
}
LARGEST_DRAWN = 100e9  # parameters


def refuse(config: Config, choices: Mapping[str, str] | None = None) -> None:
    """Raise UserError with the sentence of the first rule that the configuration breaks; `choices` names its files."""
    _refuse_seed("seed", config["seed"])
    _refuse_seed("data.seed", config["data"].get("seed", 0))
    _refuse_architecture(config["lm"])
    for group, names in POSITIVE.items():
        for name in names:
            value = config[group][name]
            if value is not None and value <= 0:
                raise UserError(f"{group}.{name}={value} must be more than 0")
    for group, names in NOT_NEGATIVE.items():
        for name in names:
            if config[group][name] < 0:
                raise UserError(f"{group}.{name}={config[group][name]} must not be negative")
    for group, limits in AT_MOST.items():
        for name, limit in limits.items():
            if (config[group][name] or 0) > limit:
                raise UserError(f"{group}.{name}={config[group][name]}: give at most {limit:,}")
    if len(config["trainer"]["betas"]) != 2 or not all(0 <= beta < 1 for beta in config["trainer"]["betas"]):
        raise UserError(f"trainer.betas={config['trainer']['betas']}: give two numbers of at least 0 and below 1")
    for sentence, broken in RULES:
        if broken(config):
            raise UserError(sentence, code=Code.INCOMPATIBLE)
    _refuse_decoding(config, choices or {})
    if config["task"] != "compare":  # which chooses no checkpoint
        _refuse_best(config)


def _refuse_architecture(lm: Config) -> None:
    shape = lm["architecture"] or {}
    for name, size in shape.items():
        if size <= 0:
            raise UserError(f"lm.architecture.{name}={size} must be more than 0")
    if shape:
        width, layers = shape["hidden_size"], shape["num_hidden_layers"]
        weights = layers * width * (4 * width + 3 * shape["intermediate_size"])
        if weights > LARGEST_DRAWN or layers > width * 100:
            raise UserError(
                f"lm.architecture={shape}: {weights / 1e9:,.0f} billion weights in {layers:,} layers "
                "cannot be drawn here: give a smaller shape"
            )


def _refuse_seed(name: str, seed: Any) -> None:
    if isinstance(seed, int) and seed < 0:
        raise UserError(f"{name}={seed} must not be negative")


def _refuse_best(config: Config) -> None:
    scores_of = score_names(config["metrics"])
    known = {score for scores in scores_of.values() for score in scores}
    for name, weight in weighted_scores(config["evaluate"]["best"]).items():
        if not math.isfinite(weight):
            raise UserError(f"evaluate.best={config['evaluate']['best']}: {name} weighs {weight}, give a finite number")
        if name not in known:
            raise UserError(
                f"evaluate.best names {name}, which none of metrics=[{', '.join(config['metrics'])}] gives: "
                f"type evaluate.best=SCORE with one of {', '.join(sorted(known))}"
            )
        for metric, node in config["metrics"].items():
            option = missing_weights(node) if name in scores_of[metric] else None
            if option is not None:
                raise UserError(
                    f"evaluate.best names {name}, and metrics.{metric}.{option}, its weights, is null: give it"
                )


def _refuse_decoding(config: Config, choices: Mapping[str, str]) -> None:
    dropped = sorted(dropped_keys(config))
    lm, generation = (f"conf/{group}/{choices.get(group, '*')}.yaml" for group in ("lm", "generation"))
    if "max_new_tokens" in dropped:
        raise UserError(f"{lm}: lm.generation drops max_new_tokens, without which no report ends: take it out there")
    try:
        Decoding(**drop_nulls(config))
    except UserError as error:
        if not dropped:
            raise
        raise UserError(
            f"{generation} asks for what {lm} cannot do (lm.generation drops {', '.join(dropped)}); "
            f"what is left does not hold: {error}",
            code=Code.INCOMPATIBLE,
        ) from error


def dropped_keys(config: Config) -> set[str]:
    """The keys of the decoding profile that this language model cannot do (nulls in lm.generation)."""
    return set(config["generation"]) & set(config["lm"]["generation"])


def drop_nulls(config: Config) -> dict[str, Any]:
    """The decoding profile without what this language model cannot do."""
    return {key: value for key, value in config["generation"].items() if key not in dropped_keys(config)}
