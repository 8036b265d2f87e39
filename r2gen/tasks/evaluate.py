"""task=evaluate: score the best checkpoint of a run."""

import torch

from r2gen.build import Job, build_job, build_logger
from r2gen.config.schema import Config
from r2gen.data.reports import data_digest
from r2gen.evaluate.ending import ending
from r2gen.evaluate.evaluation import Evaluation
from r2gen.ranks import dist
from r2gen.ranks.stop import StopRequest
from r2gen.runs import stored
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import read_metrics
from r2gen.runs.progress import working
from r2gen.tasks.external import external_name, is_external
from r2gen.tasks.scoring import build_evaluation, profile_name
from r2gen.train.checkpoint import load_best
from r2gen.train.loggers import Logger, opened
from r2gen.train.published import shown_examples, summary_of


def evaluate(config: Config, device: torch.device, stop: StopRequest) -> None:
    """Score the best checkpoint of a run with the splits, decoding and metrics of this command."""
    folder = RunFolder(config.folder)
    data_hash = data_digest(config.data)
    on = f"-{external_name(config, data_hash)}" if is_external(config, data_hash) else ""
    job_id = f"{folder.facts()['identity']}-evaluate-{profile_name(config)}{on}"
    with opened(build_logger(config), folder=folder, config=config, job_id=job_id, resumes=False) as logger:
        job = build_job(config, device)
        evaluation = build_evaluation(config, job, stop=stop)
        score_best(config, job, evaluation)
        if dist.is_first():
            publish(evaluation, folder, logger)
        dist.barrier()
    print_ending(config, evaluation)


def score_best(config: Config, job: Job, evaluation: Evaluation) -> None:
    """Load the best checkpoint into the model and score it on every split of evaluate.splits."""
    digest = load_best(job.model, config.folder)
    evaluation.evaluate(job.model, config.evaluate.splits, checkpoint=digest)


def publish(evaluation: Evaluation, folder: RunFolder, logger: Logger) -> None:
    """Write the page, and send the scores to the logger."""
    with working("writing the page"):
        evaluation.refresh_page()
    trained = stored.completed(folder)  # the number of ranks of the training, which an evaluation need not have
    logger.summary(summary_of(read_metrics(evaluation.metrics.file), folder.facts(), ranks=trained.ranks))
    if logger.wants_examples:
        logger.examples(shown_examples(evaluation))


def print_ending(config: Config, evaluation: Evaluation) -> None:
    """Print the scores. It is the last thing that a job does, so that nothing is waited for after it."""
    if dist.is_first():
        print(f"\n{ending(config.folder, evaluation.metrics.file, verbose=config.verbose)}", flush=True)
