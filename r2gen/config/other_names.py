"""What users of other programs type, and what it is called here."""

from collections.abc import Iterator
from typing import Any, get_type_hints

from r2gen.config.schema import Config, group_of

# Words that are no option here; those that end an option's name (`epochs`) are found in the schema.
OPTIONS = {
    "amp": "trainer.precision",
    "batch": "trainer.batch_size",
    "beam_size": "generation.num_beams",
    "beams": "generation.num_beams",
    "bf16": "trainer.precision=bf16",
    "data_dir": "data.root",
    "data_path": "data.root",
    "dataset": "data=NAME",
    "deepspeed": "trainer=zero2 or trainer=zero3",
    "dtype": "trainer.precision",
    "fp16": "trainer.precision=bf16",
    "gpus": "trainer.devices",
    "gradient_accumulation_steps": "trainer.batch_size and trainer.micro_batch_size, whose ratio it is",
    "image": "images=[FILE]",
    "image_path": "images=[FILE]",
    "log_dir": "run_dir",
    "lora_alpha": "tune.lm.lora.alpha, with tune/lm=lora",
    "lora_r": "tune.lm.lora.r, with tune/lm=lora",
    "lora_rank": "tune.lm.lora.r, with tune/lm=lora",
    "lr": "trainer.learning_rate",
    "max_epochs": "trainer.epochs",
    "max_length": "generation.max_new_tokens",
    "max_tokens": "generation.max_new_tokens",
    "model": "lm=NAME",
    "model_name": "lm=NAME",
    "model_name_or_path": "lm.path",
    "model_path": "lm.path",
    "n_gpu": "trainer.devices",
    "n_gpus": "trainer.devices",
    "nproc_per_node": "trainer.devices",
    "num_beams": "generation.num_beams",
    "num_epochs": "trainer.epochs",
    "num_gpus": "trainer.devices",
    "num_train_epochs": "trainer.epochs",
    "num_workers": "trainer.workers",
    "output_dir": "run_dir",
    "per_device_train_batch_size": "trainer.micro_batch_size",
    "save_dir": "run_dir",
    "scheduler": "trainer.schedule",
    "steps": "trainer.max_steps",
    "strategy": "trainer=zero2",
    "temperature": "generation.temperature, with generation=nucleus",
    "top_p": "generation.top_p, with generation=nucleus",
    "warmup": "trainer.warmup_steps",
    "wd": "trainer.weight_decay",
}
_NO_BOARD = "logger=wandb, or logger=none: the run folder has every step in train.jsonl"
_LORA = "tune=delta (LoRA on the encoder) or tune/lm=lora (on the language model)"
_TEST = "task=evaluate run_dir=DIR; task=train scores the test split too, at its end"
_REPORT = "task=generate run_dir=DIR images=[a.png] for one study, task=evaluate for whole splits"
CHOICES = {
    "data": {"iu": "data=iu_xray"},
    "logger": {"tensorboard": _NO_BOARD, "csv": _NO_BOARD, "mlflow": _NO_BOARD},
    "metrics": {
        "f1": "metrics=[findings], or chexbert and radgraph, which need weights",
        "chexpert": "metrics=[findings], or chexbert, which needs weights",
        **dict.fromkeys(("rouge", "rougel", "rouge-l"), "metrics=[rouge_l]"),
        **dict.fromkeys(
            ("bertscore", "bert_score"), "metrics=[findings], or chexbert and radgraph, which need weights"
        ),
        **dict.fromkeys(
            (f"{name}{n}" for name in ("bleu", "bleu_") for n in range(1, 5)), "metrics=[bleu] (BLEU-1 to 4)"
        ),
    },
    "quant": {
        **dict.fromkeys(("4bit", "int4", "4", "fp4", "bnb4", "qlora"), "quant=nf4"),
        **dict.fromkeys(("8bit", "8", "bnb8"), "quant=int8"),
        **dict.fromkeys(("no", "null", "false", "fp16", "bf16"), "quant=none"),
    },
    "task": {
        **dict.fromkeys(("test", "eval", "validate", "score"), _TEST),
        **dict.fromkeys(("infer", "inference", "predict"), _REPORT),
        "resume": "task=train: the same command again resumes its run",
        "finetune": "task=train",
    },
    "trainer": dict.fromkeys(("ddp", "deepspeed", "fsdp"), "trainer=zero2 trainer.devices=GPUS"),
    "tune": {
        "lora": _LORA,
        "qlora": "tune/lm=lora quant=nf4",
        "full": "tune=deep, with tune/lm=full for the language model too",
        "frozen": "tune=shallow",
        "none": "tune=shallow",
    },
    "tune/lm": {"qlora": "tune/lm=lora quant=nf4", "deep": "tune/lm=full", "none": "tune/lm=frozen"},
}


def option_for(name: str) -> str | None:
    """What an option that does not exist is called here; None if that is not known."""
    word = name.rpartition(".")[2]
    if word in OPTIONS:
        return OPTIONS[word]
    options = [option for option in _options(Config, "") if option.rpartition(".")[2] == word]
    return " or ".join(options[:3]) or None


def choice_for(group: str, option: str) -> str | None:
    """What to write instead of `group=option`; None if that is not known."""
    return CHOICES.get(group, {}).get(option.lower())


def _options(node: type, prefix: str) -> Iterator[str]:
    """The dotted names of all options with a value of their own, the likeliest groups first."""
    hints: dict[str, Any] = get_type_hints(node)
    for name in sorted(hints, key=lambda name: (name != "trainer", name)):
        nested = group_of(hints[name])
        if nested is not None:
            yield from _options(nested, f"{prefix}{name}.")
        elif name != "choices":
            yield prefix + name
