"""task=train: train a report generator, score its best checkpoint, and write the page."""

import shutil
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

from r2gen.build import Job, build_job, build_logger, data_workers, gpu_name
from r2gen.build_training import (
    augmented,
    build_engine,
    build_objective,
    cache_images,
    loop_settings,
    prepare_training,
    training_set,
)
from r2gen.config import rules
from r2gen.config.schema import Config
from r2gen.config.selection import selection_of
from r2gen.data.context_counts import counts_line, fields_and_cuts
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import epoch_length, steps_for
from r2gen.errors import UserError
from r2gen.evaluate.evaluation import Evaluation
from r2gen.model.tune import size_table, sizes
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.disk import file_limit
from r2gen.runs.folder import RunFolder
from r2gen.runs.progress import working, wrapped
from r2gen.runs.tried import record_tried
from r2gen.tasks.encoder import write_encoder
from r2gen.tasks.evaluate import print_ending, publish, score_best
from r2gen.tasks.scoring import build_evaluation
from r2gen.train.averaging import WeightAverage
from r2gen.train.checkpoint import LAST, Checkpoints, TrainState, checkpoint_bytes
from r2gen.train.engine import Engine, keep_whole, peak_gib, whole_weights
from r2gen.train.fit import fit, validation_steps
from r2gen.train.loggers import Logger, TrainLog, opened
from r2gen.train.objectives.align import alignment_scores, alignment_selection
from r2gen.train.objectives.objective import TrainingParts
from r2gen.train.rehearsal import rehearse
from r2gen.train.start import load_start
from r2gen.vision.batch_norm import moving_statistics
from r2gen.vision.encoder import cached_validation


def train(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Train to the end, score the best checkpoint on every split, write the page, and print the table."""
    folder, began = RunFolder(config.folder), time.monotonic()
    resumes, identity = folder.last() is not None, folder.facts()["identity"]
    with opened(build_logger(config), folder=folder, config=config, job_id=identity, resumes=resumes) as logger:
        job = build_job(config, device)
        evaluation = build_evaluation(config, job, stop=stop)
        if dist.is_first():
            best = "-align_loss" if rules.encoder_only(config) else selection_of(config)
            if job.model.lm.tree:
                record_tried(config, gpu=gpu_name(device))
            _describe(folder, job, quant=evaluation.predictor.origin.quant, best=best)
            _describe_context(folder, job)
            _describe_training(config, job)
            _describe_losses(config)
            evaluation.refresh_page()
        trained_s = _train_model(config, job, evaluation, folder, stop, logger)
        if not rules.encoder_only(config):
            score_best(config, job, evaluation)
        largest_gib = max(dist.gather(peak_gib(device)))
        if dist.is_first():
            _record_cost(folder, trained_s=trained_s, total_s=time.monotonic() - began, largest_gib=largest_gib)
            if rules.encoder_only(config):
                encoder = write_encoder(config, job)
                evaluation.refresh_page()
                print(f"\nencoder: {encoder}\n\npage: {folder.path / 'report.html'}", flush=True)
            else:
                publish(evaluation, folder, logger)
        dist.barrier()
    if not rules.encoder_only(config):
        print_ending(config, evaluation)


def _train_model(
    config: Config, job: Job, evaluation: Evaluation, folder: RunFolder, stop: StopRequest, logger: Logger
) -> float:
    """Train from the last checkpoint to the end; returns the seconds that this took."""
    began, train_set = time.monotonic(), training_set(config, job)
    total_steps, validate_after = _plan(config, studies=epoch_length(len(train_set), train_set.weights))
    checkpoints = _checkpoints(config, job, total_steps)
    if dist.is_first():
        folder.record(steps=total_steps)  # a sweep computes the progress from it
    if config.trainer.start is not None and checkpoints.path(LAST) is None:
        start = load_start(job.model, config.trainer.start)
        if dist.is_first():
            folder.record(start=start)
            print(f"starting from {start}", flush=True)

    objective = build_objective(config)
    objective.prepare(
        TrainingParts(
            model=job.model,
            studies=train_set.studies,
            seed=config.seed,
            max_new_tokens=job.decoding.max_new_tokens,
            keeps_slots=job.device.type == "cuda" and config.zero_stage < 3,
        )
    )
    examples = augmented(config, train_set)
    val_set = _validation_studies(config, job)
    if config.zero_stage < 3:
        prepare_training(config, job, steps=total_steps)
    val_cache = cache_images(config, job, examples, val_set)
    if not _is_trained(checkpoints, total_steps):
        with working("trying a batch before the first step", shown=dist.is_first()):
            tried = rehearse(
                job.model,
                train_set,
                micro_batch_size=config.trainer.micro_batch_size,
                decoding=job.decoding,
                decoder=evaluation.predictor.inference.decoder,
                scorer=evaluation.scorer,
                device=job.device,
                objective=objective,
            )
        if dist.is_first():
            print(wrapped(tried), flush=True)
    last = checkpoints.state(LAST)
    engine = build_engine(config, job, divides=last is None or last.zero_stage < 3)
    if config.zero_stage == 3:
        prepare_training(config, job, steps=total_steps)
    if config.trainer.ema is not None:
        checkpoints.average = WeightAverage(engine, config.trainer.ema)
    state = _resume(config, checkpoints, engine, total_steps)
    log = TrainLog(folder.path, state, total_steps=total_steps, logger=logger)
    workers = data_workers(config, job, batch_size=config.trainer.micro_batch_size)

    def validate() -> dict[str, float]:
        whole = whole_weights(engine) if checkpoints.average is None else checkpoints.average.in_module()
        with whole, cached_validation(job.model.vision, val_cache):
            if rules.encoder_only(config):
                batch = config.trainer.micro_batch_size
                return alignment_scores(job.model, val_set, batch_size=batch, workers=workers, device=job.device)
            return evaluation.validate(job.model, val_set, checkpoint=f"step-{state.step:08d}")

    try:
        fit(
            engine,
            examples,
            settings=loop_settings(config, workers=workers),
            total_steps=total_steps,
            validation_steps=validate_after,
            validate=validate if len(val_set) else None,
            selection=alignment_selection if rules.encoder_only(config) else evaluation.scorer.selection,
            checkpoints=checkpoints,
            state=state,
            log=log,
            refresh_page=evaluation.refresh_page,
            stop=stop,
            objective=objective,
        )
        logger.summary({"best/score": state.best_score, "best/step": state.best_step})
    finally:
        log.close()
        engine.destroy()
        job.model.vision.cache = None
    keep_whole(job.model)
    return time.monotonic() - began


def _plan(config: Config, *, studies: int) -> tuple[int, set[int]]:
    """The number of optimiser steps, and those after which a validation is made. Raises UserError without studies."""
    if not studies:
        raise UserError("the training split is empty: there is nothing to train on")
    trainer, size = config.trainer, config.trainer.batch_size
    total = steps_for(studies=studies, batch_size=size, epochs=trainer.epochs, max_steps=trainer.max_steps)
    every = config.evaluate.every
    steps = validation_steps(studies=studies, batch_size=size, every_epochs=every, total_steps=total)
    return total, steps if trainer.start is None else {0, *steps}  # the start competes for the best checkpoint


def _describe(folder: RunFolder, job: Job, *, quant: str, best: str) -> None:
    """Print and record the data, the parameters, the quantisation and the GPUs; `best` chooses the best checkpoint."""
    parts = sizes(job.model)
    on_gpu = job.device.type == "cuda"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if on_gpu else []
    hardware = {**folder.facts()["hardware"], "gpus": gpus}
    folder.record(parameters=[vars(part) for part in parts[:-1]], quant=quant, hardware=hardware)
    quantised = "" if quant == "none" else f"\nlanguage model: {quant}"
    counts = ", ".join(f"{len(dataset):,} {split}" for split, dataset in job.datasets.items())
    counts += _described_sets(job.datasets["train"])
    print(f"studies: {counts}{quantised}\n{size_table(parts)}\nbest checkpoint: the largest {best} on val", flush=True)


def _describe_context(folder: RunFolder, job: Job) -> None:
    """Print and record how many studies have each field of the context, and how many contexts are cut."""
    context = job.datasets["train"].context
    if context is None or not context.options.fields:
        return
    counts = folder.facts().get("context")  # of a run that resumes
    if counts is None:
        with working("counting the contexts"):
            counts = fields_and_cuts(context, {split: dataset.studies for split, dataset in job.datasets.items()})
        folder.record(context=counts)
    print(wrapped(counts_line(counts, max_tokens=context.options.max_tokens)), flush=True)


def _described_sets(train: StudyDataset) -> str:
    """The sets of a mix, with what an epoch draws; empty for one data set."""
    sets = Counter((study.set, study.weight) for study in train.studies if study.set is not None)
    if not sets:
        return ""
    listed = ", ".join(f"{count:,} of {name} x {weight:g}" for (name, weight), count in sets.items())
    return f"\nan epoch draws {epoch_length(len(train), train.weights):,} studies: {listed}"


def _describe_training(config: Config, job: Job) -> None:
    """Print what differs from training on images as they are, and with statistics that are frozen."""
    changes = [f"{name} {value}" for name, value in asdict(config.augment).items() if value]
    if changes:
        print(f"training images are changed at random: {', '.join(changes)}", flush=True)
    if moving_statistics(job.model):
        print(
            f"BatchNorm statistics move, over the images of {config.trainer.micro_batch_size} studies on each of "
            f"{config.ranks} rank(s): trainer.micro_batch_size, trainer.devices and trainer.nodes decide the weights",
            flush=True,
        )


def _describe_losses(config: Config) -> None:
    """Print what the logged losses and the validated weights are, where they are not the plain ones."""
    if config.trainer.label_smoothing:
        print(
            f"trainer.label_smoothing={config.trainer.label_smoothing}: the losses below have it, perplexities do not",
            flush=True,
        )
    if config.trainer.ema is not None:
        print(
            f"trainer.ema={config.trainer.ema}: the losses below are those of the trained weights, the scores those of "
            "their moving average",
            flush=True,
        )


def _record_cost(folder: RunFolder, *, trained_s: float, total_s: float, largest_gib: float) -> None:
    """Record time and memory; the seconds are added to those of the command that this one resumes."""
    earlier = folder.facts()
    folder.record(
        peak_memory_gib=round(max(largest_gib, earlier.get("peak_memory_gib", 0)), 3),
        seconds={
            "train": round(earlier["seconds"].get("train", 0) + trained_s, 1),
            "evaluate": round(total_s - trained_s, 1),
        },
    )


def _checkpoints(config: Config, job: Job, total_steps: int) -> Checkpoints:
    """The checkpoints of the run. Raises UserError if the run is longer already, or if the disk is too small."""
    checkpoints = Checkpoints(config.folder, keep=config.trainer.keep)
    _check_length(checkpoints, total_steps)
    _check_disk(config.folder, job, keep=config.trainer.keep)
    return checkpoints


def _is_trained(checkpoints: Checkpoints, total_steps: int) -> bool:
    done = checkpoints.state("last")
    return done is not None and done.step >= total_steps


def _resume(config: Config, checkpoints: Checkpoints, engine: Engine, total_steps: int) -> TrainState:
    """Load the last checkpoint, if there is one; returns its state."""
    weights_only = config.trainer.resume == "weights"
    state = checkpoints.resume(engine, zero_stage=engine.zero_optimization_stage(), weights_only=weights_only)
    if state.step and dist.is_first():
        print(f"resuming from step {state.step} of {total_steps}", flush=True)
    return state


def _validation_studies(config: Config, job: Job) -> StudyDataset:
    """The studies of val that a validation uses: the first evaluate.max_studies. They share the image cache."""
    val, most = job.datasets["val"], config.evaluate.max_studies
    return val if most is None else val.first(most)


def _check_length(checkpoints: Checkpoints, total_steps: int) -> None:
    """Raise UserError if the run already has more steps than this command sets."""
    done = checkpoints.state("last")
    if done is not None and done.step > total_steps:
        raise UserError(
            f"{checkpoints.folder.parent} is at step {done.step}, and trainer.epochs and trainer.max_steps "
            f"end at {total_steps}. Increase them, or use task=evaluate"
        )


def _check_disk(run_dir: Path, job: Job, *, keep: int) -> None:
    """Print the size of the checkpoints, and raise UserError if the disk has less space."""
    size = checkpoint_bytes(sum(part.trainable for part in sizes(job.model)[:-1]))
    need, free = size * (keep + 2), shutil.disk_usage(run_dir).free  # `keep` of them, the best, and a partial one
    if dist.is_first():
        print(
            f"disk: {size / 2**20:,.0f} MiB per checkpoint, {need / 2**20:,.0f} MiB at most; "
            f"{free / 2**30:,.1f} GiB free",
            flush=True,
        )
    limit = file_limit()
    if limit is not None and limit < size // 4:  # the weights are a quarter, in one file
        raise UserError(
            f"run_dir={run_dir}: a checkpoint has a file of {size / 4 / 2**20:,.1f} MiB, and this shell allows "
            f"files of {limit / 2**20:,.1f} MiB (`ulimit -f`). Raise that limit"
        )
    if need > free:
        raise UserError(
            f"run_dir={run_dir}: checkpoints need {need / 2**30:.1f} GiB, the disk has {free / 2**30:.1f} GiB free. "
            "Free some space, lower trainer.keep, or pass a run_dir on another disk"
        )
