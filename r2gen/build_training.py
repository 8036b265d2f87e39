"""The parts of a training that only a training needs: objective, optimiser, DeepSpeed engine, settings of the loop.

It belongs to the composition root: build.py builds the model and the data.
"""

from dataclasses import asdict

from r2gen.build import Job
from r2gen.config.schema import Config
from r2gen.config.targets import instantiate
from r2gen.data.augment import augmentation
from r2gen.data.dataset import StudyDataset
from r2gen.lm.compile import compile_layers, has_layers
from r2gen.lm.fp8 import prepare_backward
from r2gen.lm.quantize import weight_count
from r2gen.lm.triton_support import triton_works
from r2gen.ranks import dist
from r2gen.train.engine import Engine, start_engine
from r2gen.train.fit import LoopSettings
from r2gen.train.objectives.objective import Objective
from r2gen.train.optim import adamw
from r2gen.train.repeats import with_repeats
from r2gen.vision.feature_cache import FeatureCache

WORTH_COMPILING = 4e13  # studies x parameters of the language model


def build_objective(config: Config) -> Objective:
    """What training minimises; the caller prepares it."""
    objective: Objective = instantiate(config.objective)
    return objective


def training_set(config: Config, job: Job) -> StudyDataset:
    """The training studies with the weights of `trainer.repeat_threshold`; `job.datasets` has them as they are."""
    threshold, train = config.trainer.repeat_threshold, job.datasets["train"]
    return train if threshold is None else with_repeats(train, threshold)


def augmented(config: Config, train: StudyDataset) -> StudyDataset:
    """The studies with images that `augment` changes at random."""
    return train.augmented(augmentation(**asdict(config.augment)))


def prepare_training(config: Config, job: Job, *, steps: int) -> None:
    """Make the model ready for so many steps, before its first backward pass; with ZeRO 3 after its engine was built.

    Layers that were compiled before DeepSpeed changes how weights are accessed would be compiled once more.
    """
    lm = job.model.lm.model
    prepare_backward(lm)
    if config.lm.compile or (config.lm.compile is None and _compiling_pays(config, job, steps=steps)):
        compile_layers(lm)


def cache_images(config: Config, job: Job, train_set: StudyDataset, val_set: StudyDataset) -> FeatureCache | None:
    """Let a frozen encoder compute the features of each training image once, if those of all of them fit.

    Returns a cache for the images of a validation, if those fit as well.
    """
    vision = job.model.vision
    if not vision.is_frozen:
        return None
    image_bytes = vision.num_tokens * vision.dim * next(vision.backbone.parameters()).element_size()
    room = config.trainer.feature_cache_mib * 2**20 // image_bytes
    images, val_images = (sum(map(data.images_of, data.studies)) for data in (train_set, val_set))
    if train_set.augment is None and images <= room:
        vision.cache = FeatureCache(images)
        room -= images
    return FeatureCache(val_images) if val_images <= room else None


def _compiling_pays(config: Config, job: Job, *, steps: int) -> bool:
    """Whether compiled layers save more time than they take to compile, which is 15 s on a machine with an NVIDIA H200.

    They save 3 ms or more per study and 7 billion parameters (benchmarks/train_parts.py).
    """
    lm = job.model.lm.model
    # With ZeRO 3 DeepSpeed's hooks are within layers that train.
    by_module = config.zero_stage == 3 and any(weight.requires_grad for weight in lm.parameters())
    possible = job.device.type == "cuda" and has_layers(lm) and config.lm.device_map is None and not by_module
    if not possible or not triton_works():
        return False
    studies = steps * config.trainer.batch_size / dist.world()
    return studies * sum(map(weight_count, lm.parameters())) > WORTH_COMPILING


def build_engine(config: Config, job: Job, *, divides: bool = True) -> Engine:
    """The DeepSpeed engine around the model, with its optimiser.

    With ZeRO 3 a frozen encoder stays whole: it is small, and ranks may call it differently often, as its cache needs.
    `divides` is as in start_engine.
    """
    trainer, vision, lm = config.trainer, job.model.vision, job.model.lm.model
    optimizer = adamw(
        job.model,
        learning_rate=trainer.learning_rate,
        betas=(trainer.betas[0], trainer.betas[1]),
        weight_decay=trainer.weight_decay,
        decay_all=trainer.weight_decay_on == "all",
        scales=asdict(trainer.learning_rate_scale),
    )
    return start_engine(
        job.model,
        optimizer,
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        gradient_clipping=trainer.gradient_clipping,
        bf16=job.bf16,
        options=trainer.deepspeed,
        whole=[vision.backbone] if vision.is_frozen else [],
        frozen_lm=None if any(weight.requires_grad for weight in lm.parameters()) else lm,
        divides=divides,
    )


def loop_settings(config: Config, *, workers: int) -> LoopSettings:
    trainer = config.trainer
    return LoopSettings(
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        learning_rate=trainer.learning_rate,
        min_learning_rate=trainer.min_learning_rate,
        warmup_steps=trainer.warmup_steps,
        schedule=trainer.schedule,
        patience=trainer.patience,
        workers=workers,
        save_every_steps=trainer.save_every_steps,
        log_every_steps=trainer.log_every_steps,
        shuffle=trainer.shuffle,
        seed=config.seed,
    )
