"""What a job does once its ranks run: train, evaluate, generate. Each is a recipe over build.py's parts."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch

from r2gen.build import Job, build_evaluation, build_job, build_logger, decoding_name, loop_settings
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import steps_for
from r2gen.errors import UserError, printable
from r2gen.evaluate.evaluation import Evaluation
from r2gen.evaluate.tables import table_of
from r2gen.model.tune import size_table, sizes
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import read_metrics
from r2gen.runs.stored import completed
from r2gen.tasks.generate import TrainedRun
from r2gen.train.checkpoint import Checkpoints, checkpoint_bytes, load_best
from r2gen.train.engine import keep_whole, peak_gib, start_engine, whole_weights
from r2gen.train.fit import fit, validation_steps
from r2gen.train.loggers import Logger, TrainLog, opened
from r2gen.train.optim import adamw
from r2gen.train.published import shown_examples, summary_of

Config = dict[str, Any]


def train(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Train what is left to train, score the best checkpoint on every split, write the page, print the table."""
    folder, began = RunFolder(Path(config["run_dir"])), time.monotonic()
    going_on, identity = folder.last() is not None, folder.facts()["identity"]
    with opened(build_logger(config), folder=folder, config=config, job_id=identity, going_on=going_on) as logger:
        job = build_job(config, device)
        evaluation = build_evaluation(config, job, stop=stop)
        if dist.is_first():
            describe(folder, job)
            evaluation.refresh_page()
        trained_s = train_model(config, job, evaluation, folder, stop, logger)
        score(config, job, evaluation)
        most_gib = max(dist.gather(peak_gib(device)))
        if dist.is_first():
            earlier = folder.facts()
            total_s = time.monotonic() - began
            folder.record(
                peak_memory_gib=round(max(most_gib, earlier.get("peak_memory_gib", 0)), 3),
                seconds={
                    "train": round(earlier["seconds"].get("train", 0) + trained_s, 1),
                    "evaluate": round(total_s - trained_s, 1),
                },
            )
            tell(evaluation, folder, logger)
        dist.barrier()


def evaluate(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Score the best checkpoint of a run that exists, with the splits, decoding and metrics asked for now."""
    folder = RunFolder(Path(config["run_dir"]))
    job_id = f"{folder.facts()['identity']}-evaluate-{decoding_name(config)}"
    with opened(build_logger(config), folder=folder, config=config, job_id=job_id, going_on=False) as logger:
        job = build_job(config, device)
        evaluation = build_evaluation(config, job, stop=stop)
        score(config, job, evaluation)
        if dist.is_first():
            tell(evaluation, folder, logger)
        dist.barrier()


def tell(evaluation: Evaluation, folder: RunFolder, logger: Logger) -> None:
    """Page, table and dashboard of what was scored."""
    evaluation.refresh_page()
    print(f"\n{table_of(evaluation.metrics_file)}\n\npage: {folder.path / 'report.html'}", flush=True)
    trainer = completed(folder, in_hydra=False)["trainer"]  # of the training: an evaluation may have other ranks
    logger.summary(
        summary_of(read_metrics(evaluation.metrics_file), folder.facts(), ranks=trainer["devices"] * trainer["nodes"])
    )
    if logger.wants_examples:
        logger.examples(shown_examples(evaluation))


def generate(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Print the report of one study's images."""
    if dist.is_first():
        run = TrainedRun(Path(config["run_dir"]), config=config, device=device)
        print(printable(run.generate(config["images"])), flush=True)
    dist.barrier()


def score(config: Config, job: Job, evaluation: Evaluation) -> None:
    """Put the best checkpoint into the model and score it on every split asked for."""
    digest = load_best(job.model, Path(config["run_dir"]))
    evaluation.evaluate(job.model, config["evaluate"]["splits"], checkpoint=digest)


def train_model(
    config: Config, job: Job, evaluation: Evaluation, folder: RunFolder, stop: StopRequest, logger: Logger
) -> float:
    """The training part of `train`; gives the seconds it took now."""
    settings, trainer, began = loop_settings(config), config["trainer"], time.monotonic()
    studies = len(job.datasets["train"])
    if not studies:
        raise UserError("the training split is empty: there is nothing to train on")
    total = steps_for(
        studies=studies, batch_size=settings.batch_size, epochs=trainer["epochs"], max_steps=trainer["max_steps"]
    )
    if dist.is_first():
        folder.record(steps=total)  # by which a sweep knows how far the run is
    checkpoints = Checkpoints(folder.path, keep=trainer["keep"])
    check_length(checkpoints, total)
    check_disk(folder.path, job, keep=trainer["keep"])
    engine = start_engine(
        job.model,
        adamw(
            job.model,
            learning_rate=settings.learning_rate,
            betas=tuple(trainer["betas"]),
            weight_decay=trainer["weight_decay"],
            decay_all=trainer["weight_decay_on"] == "all",
        ),
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        gradient_clipping=trainer["gradient_clipping"],
        bf16=job.bf16,
        options=trainer["deepspeed"],
    )
    state = checkpoints.resume(
        engine,
        zero_stage=trainer["deepspeed"]["zero_optimization"]["stage"],
        weights_only=trainer["resume"] == "weights",
    )
    if state.step and dist.is_first():
        print(f"going on from step {state.step} of {total}", flush=True)
    val = limited(job.datasets["val"], config["evaluate"]["max_studies"])
    log = TrainLog(
        folder.path, total_steps=total, first_step=state.step, validated_step=state.validated_step, logger=logger
    )

    def validate() -> dict[str, float]:
        with whole_weights(engine):
            return evaluation.validate(job.model, val, checkpoint=f"step-{state.step:08d}")

    try:
        fit(
            engine,
            job.datasets["train"],
            settings=settings,
            total_steps=total,
            validation_steps=validation_steps(
                studies=studies,
                batch_size=settings.batch_size,
                every_epochs=config["evaluate"]["every"],
                total_steps=total,
            ),
            validate=validate if len(val) else None,
            selection=evaluation.selection,
            checkpoints=checkpoints,
            state=state,
            log=log,
            refresh_page=evaluation.refresh_page,
            stop=stop,
        )
        logger.summary({"best/score": state.best_score, "best/step": state.best_step})
    finally:
        log.close()
        engine.destroy()
    keep_whole(job.model)
    return time.monotonic() - began


def describe(folder: RunFolder, job: Job) -> None:
    """Print and record what trains, and on what."""
    parts = sizes(job.model)
    on_gpu = job.device.type == "cuda"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if on_gpu else []
    folder.record(parameters=[vars(part) for part in parts[:-1]], hardware={**folder.facts()["hardware"], "gpus": gpus})
    counts = ", ".join(f"{len(dataset):,} {split}" for split, dataset in job.datasets.items())
    print(f"studies: {counts}\n{size_table(parts)}", flush=True)


def limited(dataset: StudyDataset, studies: int | None) -> StudyDataset:
    """The first studies of a split, for quick validations; the images read so far are shared."""
    return dataset if studies is None else dataset.first(studies)


def check_length(checkpoints: Checkpoints, total_steps: int) -> None:
    done = checkpoints.state("last")
    if done is not None and done.step > total_steps:
        raise UserError(
            f"{checkpoints.folder.parent} is at step {done.step}, trainer.epochs and trainer.max_steps ask "
            f"for {total_steps}: raise them, or use task=evaluate"
        )


def check_disk(run_dir: Path, job: Job, *, keep: int) -> None:
    """Say what the checkpoints will take, and refuse where the disk has less."""
    one = checkpoint_bytes(sum(part.trainable for part in sizes(job.model)[:-1]))
    need, free = one * (keep + 2), shutil.disk_usage(run_dir).free  # the kept ones, the best, and one being written
    if dist.is_first():
        print(
            f"disk: {one / 2**20:,.0f} MiB a checkpoint, {need / 2**20:,.0f} MiB at most; {free / 2**30:,.1f} GiB free",
            flush=True,
        )
    if need > free:
        raise UserError(
            f"run_dir={run_dir}: checkpoints need {need / 2**30:.1f} GiB, the disk has {free / 2**30:.1f} "
            "free: free some, lower trainer.keep, or give a run_dir on another disk"
        )
